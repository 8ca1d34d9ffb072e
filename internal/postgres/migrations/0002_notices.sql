-- +goose Up

-- A notice is one e-mail window: opened by the first move, closed after a fixed time, never extended. Its way:
-- open → closed → sending → sent | suppressed | undeliverable | ambiguous, or closed → merged into another one's mail.
CREATE TABLE notices (
    notice_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    recipient_id text COLLATE "C" NOT NULL,
    account_id   text COLLATE "C" NOT NULL, -- '' in summary mode: every account of the recipient
    state        text NOT NULL DEFAULT 'open'
                 CHECK (state IN ('open', 'closed', 'sending', 'sent', 'suppressed', 'undeliverable', 'ambiguous', 'merged')),
    opened_at    timestamptz NOT NULL,
    close_at     timestamptz NOT NULL CHECK (close_at >= opened_at),
    -- The claim: until when, and the fence that stops a late writer.
    lease_until  timestamptz,
    fence        bigint NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL, -- first when it closes
    tries        integer NOT NULL DEFAULT 0, -- after which the server refused the mail for now
    -- When several windows of one recipient go out as one mail: the notice whose mail tells this one's items.
    merged_into  bigint REFERENCES notices,
    -- The frozen mail: every try sends these bytes. They are dropped when it is sent.
    message_id   text,
    to_address   text,
    subject      text,
    mime         bytea,
    tasks_told   integer,
    problem      text,
    finished_at  timestamptz,
    CHECK ((state IN ('open', 'closed', 'sending')) = (finished_at IS NULL)),
    CHECK ((state = 'sending') = (lease_until IS NOT NULL)),
    CHECK ((state = 'merged') = (merged_into IS NOT NULL))
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX notices_open ON notices (tenant_id, recipient_id, account_id) WHERE state = 'open';
CREATE INDEX notices_closing ON notices (close_at) WHERE state = 'open';
CREATE INDEX notices_due ON notices (next_try_at) WHERE state = 'closed';
CREATE INDEX notices_waiting ON notices (tenant_id, recipient_id) WHERE state IN ('open', 'closed');
-- Not by the lease, so that renewing it touches no index.
CREATE INDEX notices_sending ON notices (notice_id) WHERE state = 'sending';
CREATE INDEX notices_ambiguous ON notices (notice_id) WHERE state = 'ambiguous';
CREATE INDEX notices_merged ON notices (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX notices_tenant ON notices (tenant_id, notice_id DESC);
CREATE INDEX notices_recipient ON notices (tenant_id, recipient_id, notice_id DESC);
-- Compressing a mail with what every PostgreSQL has costs more than all else about it.
-- +goose StatementBegin
DO $$ BEGIN ALTER TABLE notices ALTER mime SET COMPRESSION lz4; EXCEPTION WHEN feature_not_supported THEN NULL; END $$;
-- +goose StatementEnd

-- What a window gathers: a row for each message and recipient, with all of its tasks. What a task is called and who has it
-- is read when the mail is written, from the tasks themselves.
CREATE TABLE notice_moves (
    notice_id    bigint NOT NULL REFERENCES notices,
    kind         text NOT NULL CHECK (kind IN ('received', 'taken_back')),
    account_id   text COLLATE "C" NOT NULL,
    from_id      text COLLATE "C", -- who had the tasks before; NULL: nobody
    moved_by     text COLLATE "C" NOT NULL,
    reason       text NOT NULL,
    role         text COLLATE "C" NOT NULL DEFAULT '',
    moved_at     timestamptz NOT NULL,
    task_ids     text[] COLLATE "C" NOT NULL,
    revisions    bigint[] NOT NULL,
    CHECK (cardinality(task_ids) = cardinality(revisions))
);
CREATE INDEX notice_moves_notice ON notice_moves (notice_id);

-- One move of one task, told to one recipient once: by which notice. It is asked for by its key alone and so has no other
-- index, and no foreign key, which would cost more than the row: a notice that has items is never deleted.
CREATE TABLE notice_items (
    tenant_id    text COLLATE "C" NOT NULL,
    recipient_id text COLLATE "C" NOT NULL,
    task_id      text COLLATE "C" NOT NULL,
    revision     bigint NOT NULL,
    notice_id    bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('received', 'taken_back')),
    -- The mail doesn't mention it: when it was written the task had moved on, was closed, or was where it had been.
    left_out     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, recipient_id, task_id, revision)
) WITH (fillfactor = 90);

-- Written before a send begins, completed after it ended: an attempt without outcome is one whose end nobody knows.
CREATE TABLE notice_attempts (
    notice_id  bigint NOT NULL REFERENCES notices,
    fence      bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    outcome    text CHECK (outcome IN ('accepted', 'rejected_for_now', 'rejected', 'not_sent', 'unknown')),
    code       integer,
    response   text,
    PRIMARY KEY (notice_id, fence),
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);

-- +goose Down
DROP TABLE notice_attempts, notice_items, notice_moves, notices;
