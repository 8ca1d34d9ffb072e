-- +goose Up

-- A notice is one e-mail window: opened by the first move, closed after a fixed time, never extended. Its way:
-- open → closed → sending → sent | suppressed | undeliverable | ambiguous.
CREATE TABLE notices (
    notice_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants,
    recipient_id text COLLATE "C" NOT NULL,
    account_id   text COLLATE "C" NOT NULL, -- '' in summary mode: every account of the recipient
    state        text NOT NULL DEFAULT 'open'
                 CHECK (state IN ('open', 'closed', 'sending', 'sent', 'suppressed', 'undeliverable', 'ambiguous')),
    opened_at    timestamptz NOT NULL,
    close_at     timestamptz NOT NULL CHECK (close_at >= opened_at),
    -- The claim: who sends it, until when, and the fence that stops a late writer.
    lease_until  timestamptz,
    fence        bigint NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL DEFAULT '-infinity',
    tries        integer NOT NULL DEFAULT 0,
    -- Set when several windows of one recipient go out as one mail: the notice that carries this one's items.
    merged_into  bigint REFERENCES notices,
    -- The frozen mail.
    message_id   text UNIQUE,
    to_address   text,
    subject      text,
    mime         bytea,
    tasks_told   integer,
    problem      text,
    finished_at  timestamptz
);
CREATE UNIQUE INDEX notices_open ON notices (tenant_id, recipient_id, account_id) WHERE state = 'open';
CREATE INDEX notices_due ON notices (close_at) WHERE state IN ('open', 'closed', 'sending');
CREATE INDEX notices_tenant ON notices (tenant_id, notice_id DESC);

-- One move of one task, told to one recipient once.
CREATE TABLE notice_items (
    tenant_id    text COLLATE "C" NOT NULL,
    recipient_id text COLLATE "C" NOT NULL,
    task_id      text COLLATE "C" NOT NULL,
    revision     bigint NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('received', 'taken_back')),
    notice_id    bigint NOT NULL REFERENCES notices,
    account_id   text COLLATE "C" NOT NULL,
    from_id      text COLLATE "C",
    to_id        text COLLATE "C",
    moved_by     text NOT NULL,
    reason       text NOT NULL,
    role         text NOT NULL DEFAULT '',
    moved_at     timestamptz NOT NULL,
    -- The task as it was when it moved.
    title        text NOT NULL,
    due_at       timestamptz,
    priority     text NOT NULL DEFAULT '',
    url          text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, recipient_id, task_id, revision)
);
CREATE INDEX notice_items_notice ON notice_items (notice_id);

-- Written before a send begins, completed after it ended: an attempt without outcome is one whose end nobody knows.
CREATE TABLE notice_attempts (
    attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notice_id  bigint NOT NULL REFERENCES notices,
    fence      bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    outcome    text CHECK (outcome IN ('accepted', 'rejected_for_now', 'rejected', 'not_sent', 'unknown')),
    code       integer,
    response   text,
    UNIQUE (notice_id, fence)
);

-- +goose Down
DROP TABLE notice_attempts, notice_items, notices;
