-- +goose Up

-- Ids are the upstream systems' own texts, compared bytewise; every row and every key carries the tenant.
-- Times are UTC with microseconds. An absent person (nobody) is NULL.

CREATE TABLE tenants (
    tenant_id           text COLLATE "C" PRIMARY KEY CHECK (tenant_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    -- One e-mail window per recipient and account, or one per recipient.
    notice_mode         text NOT NULL DEFAULT 'account' CHECK (notice_mode IN ('account', 'summary')),
    -- Whether a role change from outside may carry its own policy.
    allow_task_override boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    user_id      text COLLATE "C" NOT NULL,
    name         text NOT NULL,
    email        text NOT NULL DEFAULT '',
    time_zone    text NOT NULL DEFAULT 'UTC',
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deleted')),
    -- What upstream said of the status last: only another value is news.
    synced_status text,
    -- Whether they get e-mails; the in-app notices stay.
    notices      boolean NOT NULL DEFAULT true,
    -- Since when they are gone, and the operation that hands on what they leave behind, once a successor is named.
    left_at      timestamptz,
    successor_id text COLLATE "C",
    departure_id text COLLATE "C",
    -- Whether that operation hands on every open task of theirs, or only what the policy moves with their roles.
    departure_tasks boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id),
    CHECK ((status = 'active') = (left_at IS NULL)),
    CHECK ((successor_id IS NULL) = (departure_id IS NULL))
);
CREATE INDEX users_left ON users (tenant_id, left_at) WHERE left_at IS NOT NULL;

CREATE TABLE roles (
    tenant_id text COLLATE "C" NOT NULL REFERENCES tenants,
    role      text COLLATE "C" NOT NULL,
    name      text NOT NULL,
    PRIMARY KEY (tenant_id, role)
);

CREATE TABLE policy_history (
    tenant_id      text COLLATE "C" NOT NULL REFERENCES tenants,
    effective_from timestamptz NOT NULL,
    policy         text NOT NULL CHECK (policy IN ('keep_tasks', 'move_automated_tasks', 'move_all_tasks')),
    changed_by     text NOT NULL,
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, effective_from)
);

CREATE TABLE accounts (
    tenant_id  text COLLATE "C" NOT NULL REFERENCES tenants,
    account_id text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account_id)
);

-- The lock of an account: whoever writes an assignee, a base, a status, a task's account or a role's owner holds the
-- head first. A head may exist before its account is known.
CREATE TABLE account_heads (
    tenant_id   text COLLATE "C" NOT NULL,
    account_id  text COLLATE "C" NOT NULL,
    -- The latest time of a recorded change, the one before the last raise, and the latest time handed out by us.
    newest_at   timestamptz NOT NULL DEFAULT '-infinity',
    previous_at timestamptz NOT NULL DEFAULT '-infinity',
    issued_at   timestamptz NOT NULL DEFAULT '-infinity',
    -- The latest effective_at that a task of the account has had: a change before that is no matter of whole holdings.
    assigned_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, account_id)
) WITH (fillfactor = 70);

CREATE TABLE account_roles (
    tenant_id    text COLLATE "C" NOT NULL,
    account_id   text COLLATE "C" NOT NULL,
    role         text COLLATE "C" NOT NULL,
    -- Folded: who holds it, who held it last, and the time of the change that made it so.
    owner_id     text COLLATE "C",
    last_person  text COLLATE "C",
    since        timestamptz NOT NULL DEFAULT '-infinity',
    -- The latest owner among what is recorded and what we have issued but not seen come back: "same owner" means this one.
    latest_owner text COLLATE "C",
    latest_at    timestamptz NOT NULL DEFAULT '-infinity',
    -- What upstream told: the first owner since ever, and what it said last (only another value is news).
    first_owner  text COLLATE "C",
    synced_owner text COLLATE "C",
    synced       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, account_id, role)
) WITH (fillfactor = 70);
CREATE INDEX account_roles_owner ON account_roles (tenant_id, owner_id, account_id) WHERE owner_id IS NOT NULL;

-- One row per change, inserted once. The policy column is rewritten only when a policy is set right with effect from the past.
CREATE TABLE role_changes (
    key          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest       uuid NOT NULL UNIQUE, -- of tenant, source and id: one narrow index, one possible plan
    content      uuid NOT NULL, -- digest of all the rest
    tenant_id    text COLLATE "C" NOT NULL,
    account_id   text COLLATE "C" NOT NULL,
    role         text COLLATE "C" NOT NULL, -- '' when only a person's tasks move
    from_id      text COLLATE "C", -- NULL: the last person who held the role before, found by the fold
    to_id        text COLLATE "C", -- NULL: nobody
    occurred_at  timestamptz NOT NULL,
    sequence     text COLLATE "C" NOT NULL DEFAULT '',
    source       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    policy       text NOT NULL CHECK (policy IN ('keep_tasks', 'move_automated_tasks', 'move_all_tasks')),
    -- It carried its own policy, so the history of the tenant's has no say in it.
    overridden   boolean NOT NULL DEFAULT false,
    reason       text NOT NULL,
    initiated_by text NOT NULL,
    operation_id text COLLATE "C", -- only of our own operations
    traceparent  text NOT NULL DEFAULT '',
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX role_changes_account ON role_changes (tenant_id, account_id, occurred_at);
-- A departure asks for the few changes that lie ahead of the clock; next to nothing to keep, since rows come in about that order.
CREATE INDEX role_changes_ahead ON role_changes USING brin (occurred_at) WITH (autosummarize = on);
CREATE INDEX role_changes_operation ON role_changes (operation_id) WHERE operation_id IS NOT NULL;

-- Open tasks of an account that are with one person and that role changes move alike: a role change moves the holding,
-- one row, and with it all its tasks. So this also tells who has how many open tasks where. One without tasks is gone;
-- there may be several of a kind.
CREATE TABLE holdings (
    tenant_id   text COLLATE "C" NOT NULL,
    account_id  text COLLATE "C" NOT NULL,
    key         bigint GENERATED ALWAYS AS IDENTITY, -- unique by itself
    role        text COLLATE "C" NOT NULL, -- of its tasks
    manual      boolean NOT NULL, -- whether that is their source
    -- The fold as last written.
    assignee_id text COLLATE "C",
    moves       bigint NOT NULL DEFAULT 0, -- how often it has moved
    n           integer NOT NULL CHECK (n > 0), -- its tasks
    PRIMARY KEY (tenant_id, account_id, key)
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX holdings_assignee ON holdings (tenant_id, assignee_id, account_id);

-- Read tasks through the views below, which say whom they are with. Only the primary key begins with a tenant and holds no
-- account: so a look-up by task, planned while the table was empty, can't go through all tasks of the tenant.
CREATE TABLE task_rows (
    tenant_id     text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    account_id    text COLLATE "C" NOT NULL,
    title         text NOT NULL,
    status        text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'completed', 'cancelled')),
    source        text COLLATE "C" NOT NULL DEFAULT 'manual',
    role          text COLLATE "C" NOT NULL DEFAULT '', -- '' when it is bound to no role
    priority      text NOT NULL DEFAULT '',
    url           text NOT NULL DEFAULT '',
    due_at        timestamptz,
    created_at    timestamptz,
    -- An open task is with whom its holding is; a closed one keeps what it had.
    holding         bigint,
    closed_assignee text COLLATE "C",
    -- The changes of assignee since first sight, without those that are the moves of its holding (also those before it joined).
    own_revision  bigint NOT NULL DEFAULT 0,
    -- The base: whom somebody chose on purpose, when as told, from when changes apply, and the revision it had then.
    base_assignee text COLLATE "C",
    assigned_at   timestamptz NOT NULL,
    effective_at  timestamptz NOT NULL,
    base_revision bigint NOT NULL DEFAULT 0,
    -- What upstream said last.
    synced_assignee text COLLATE "C",
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, task_id),
    CHECK ((holding IS NULL) = (status IN ('completed', 'cancelled'))),
    CHECK (holding IS NULL OR closed_assignee IS NULL)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX tasks_holding ON task_rows (holding) WHERE holding IS NOT NULL;
CREATE INDEX tasks_closed ON task_rows (tenant_id, account_id) WHERE status IN ('completed', 'cancelled');

-- Every task, to be found by its id.
CREATE VIEW tasks AS
SELECT t.tenant_id, t.task_id, t.account_id, t.title, t.status, t.source, t.role, t.priority, t.url, t.due_at, t.created_at,
       t.holding, t.own_revision, coalesce(h.assignee_id, t.closed_assignee) AS assignee_id, t.own_revision + coalesce(h.moves, 0) AS revision,
       t.base_assignee, t.assigned_at, t.effective_at, t.base_revision, t.synced_assignee, t.updated_at
FROM task_rows t LEFT JOIN holdings h ON h.tenant_id = t.tenant_id AND h.account_id = t.account_id AND h.key = t.holding;

-- The open ones, to be found by account or assignee.
CREATE VIEW open_tasks AS
SELECT h.tenant_id, t.task_id, h.account_id, t.title, t.status, t.source, h.role, t.priority, t.url, t.due_at, t.created_at,
       t.holding, t.own_revision, h.assignee_id, t.own_revision + h.moves AS revision,
       t.base_assignee, t.assigned_at, t.effective_at, t.base_revision, t.synced_assignee, t.updated_at
FROM holdings h JOIN task_rows t ON t.holding = h.key;

-- On which accounts a task was before a sync took it to another: its moves of then are found there.
CREATE TABLE former_accounts (
    tenant_id  text COLLATE "C" NOT NULL,
    task_id    text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, task_id, account_id)
);

-- One row per account, cause, previous and new assignee, and transaction.
CREATE TABLE moves (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    change_key bigint, -- the role change behind it; NULL when somebody chose the assignee
    reason     text NOT NULL, -- of the change; else 'assigned' or 'synced'
    moved_by   text NOT NULL,
    from_id    text COLLATE "C",
    to_id      text COLLATE "C",
    correction boolean NOT NULL DEFAULT false,
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    task_ids   text[] COLLATE "C" NOT NULL,
    revisions  bigint[] NOT NULL,
    CHECK (cardinality(task_ids) = cardinality(revisions))
);
CREATE INDEX moves_account ON moves (tenant_id, account_id, moved_at);

CREATE TABLE operations (
    operation_id text COLLATE "C" PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    kind         text NOT NULL CHECK (kind IN ('role_change', 'bulk_edit', 'user_disabled', 'user_deleted', 'resources_reassigned', 'task_assigned')),
    initiated_by text NOT NULL,
    accepted_at  timestamptz NOT NULL, -- the time of all its changes
    -- What was asked for, as its kind needs it.
    request      jsonb NOT NULL,
    state        text NOT NULL CHECK (state IN ('expanding', 'applying', 'done', 'failed')),
    -- Where the expansion stands: the last account expanded. NULL before the first.
    cursor       text COLLATE "C",
    accounts     bigint NOT NULL DEFAULT 0, -- that it is about, as far as known
    unchanged    bigint NOT NULL DEFAULT 0, -- accounts that were as asked already
    changes      bigint NOT NULL DEFAULT 0, -- role changes issued
    applied      bigint NOT NULL DEFAULT 0, -- of these, recorded by the reassigner
    refused      bigint NOT NULL DEFAULT 0, -- of these, dead letters
    tasks_moved  bigint NOT NULL DEFAULT 0,
    problem      text,
    finished_at  timestamptz,
    CHECK ((state IN ('done', 'failed')) = (finished_at IS NOT NULL))
);
CREATE INDEX operations_tenant ON operations (tenant_id, accepted_at DESC, operation_id);
CREATE INDEX operations_expanding ON operations (accepted_at) WHERE state = 'expanding';

-- What a person is told in the product.
CREATE TABLE notifications (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    user_id      text COLLATE "C" NOT NULL,
    operation_id text COLLATE "C",
    kind         text NOT NULL,
    title        text NOT NULL,
    data         jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    read_at      timestamptz
);
CREATE INDEX notifications_user ON notifications (tenant_id, user_id, notification_id DESC);
CREATE UNIQUE INDEX notifications_operation ON notifications (operation_id, kind) WHERE operation_id IS NOT NULL;

-- Everything that is to be published, of all parts. A row is written once: what becomes of it stands in the two tables
-- after this one, so that publishing costs no second copy of it. Compressing a body of a few KB costs more than writing it.
CREATE TABLE outbox (
    key          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id   text COLLATE "C" NOT NULL,
    tenant_id    text COLLATE "C" NOT NULL,
    stream       text NOT NULL,
    subject      text NOT NULL,
    header       jsonb, -- NULL: only the Content-Type of a structured CloudEvent
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (toast_tuple_target = 8160);
-- The ids of role changes are made of what they are about, so that none is issued twice; all others are new.
CREATE UNIQUE INDEX outbox_role_changes ON outbox (message_id) WHERE stream = 'ROLE_CHANGES';

-- What isn't published yet. Selected by being here, never by a cursor over keys.
CREATE TABLE outbox_owed (
    key bigint PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- Where the broker has put what is published: a row for all that was acknowledged at once on one stream, which is named
-- also by the time it was created. The arrays go together.
CREATE TABLE outbox_published (
    key            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream         text NOT NULL,
    stream_created timestamptz NOT NULL,
    last_sequence  bigint NOT NULL,
    keys           bigint[] NOT NULL,
    sequences      bigint[] NOT NULL,
    published_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (cardinality(keys) = cardinality(sequences))
);
CREATE INDEX outbox_published_stream ON outbox_published (stream, last_sequence);

CREATE TABLE dead_letters (
    key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      uuid NOT NULL UNIQUE, -- of consumer, reason and the original bytes: once, however often it is delivered
    tenant_id   text COLLATE "C" NOT NULL, -- of the subject; '' when it has none
    consumer    text NOT NULL,
    reason      text NOT NULL,
    detail      text NOT NULL,
    user_id     text COLLATE "C", -- whom owner_unknown waits for
    operation_id text COLLATE "C",
    stream      text NOT NULL,
    stream_sequence bigint NOT NULL,
    subject     text NOT NULL,
    header      jsonb NOT NULL,
    body        bytea NOT NULL,
    state       text NOT NULL DEFAULT 'dead' CHECK (state IN ('dead', 'retried', 'resolved', 'dropped')),
    tries       integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letters_dead ON dead_letters (tenant_id, reason, key) WHERE state = 'dead';
CREATE INDEX dead_letters_waiting ON dead_letters (tenant_id, user_id) WHERE state = 'dead' AND user_id IS NOT NULL;

CREATE TABLE idempotency_keys (
    tenant_id  text COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    request    uuid NOT NULL, -- digest of method, path and body
    status     integer, -- NULL while the first request is under way
    header     jsonb,
    body       bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, user_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TABLE tokens (
    token_id     text COLLATE "C" PRIMARY KEY,
    secret_hash  bytea NOT NULL UNIQUE, -- SHA-256 of the whole token
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    user_id      text COLLATE "C" NOT NULL,
    name         text NOT NULL DEFAULT '',
    rights       text[] NOT NULL CHECK (rights <@ ARRAY['admin', 'policy', 'assign', 'sync', 'read'] AND cardinality(rights) > 0),
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX tokens_tenant ON tokens (tenant_id, created_at);

-- +goose Down
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
