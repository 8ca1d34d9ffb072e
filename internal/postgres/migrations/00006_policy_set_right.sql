-- +goose Up

-- policy_history is what is in force, and all that a change is judged by. What was put out of force, because the policy was
-- set right with effect from before it, is kept here: who had set what, and who set it right.
CREATE TABLE policies_superseded (
    key            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenants,
    effective_from timestamptz NOT NULL,
    policy         text NOT NULL,
    changed_by     text NOT NULL,
    changed_at     timestamptz NOT NULL,
    operation_id   text COLLATE "C", -- that had set it
    superseded_by  text NOT NULL,
    superseded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    superseded_in  text COLLATE "C" NOT NULL -- the operation
);
CREATE INDEX policies_superseded_tenant ON policies_superseded (tenant_id, effective_from DESC, changed_at DESC);

-- The operation that set it with effect from the past; NULL where it was set for what was to come.
ALTER TABLE policy_history ADD operation_id text COLLATE "C";

ALTER TABLE operations
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('role_change', 'bulk_edit', 'user_disabled', 'user_deleted', 'resources_reassigned', 'task_assigned', 'policy_corrected')),
    -- Tasks that stay with who has them though a policy set right would never have given them to them.
    ADD tasks_kept bigint NOT NULL DEFAULT 0;

-- +goose Down
DELETE FROM operations WHERE kind = 'policy_corrected';
ALTER TABLE operations
    DROP COLUMN tasks_kept,
    DROP CONSTRAINT operations_kind_check,
    ADD CONSTRAINT operations_kind_check CHECK (kind IN ('role_change', 'bulk_edit', 'user_disabled', 'user_deleted', 'resources_reassigned', 'task_assigned'));
ALTER TABLE policy_history DROP COLUMN operation_id;
DROP TABLE policies_superseded;
