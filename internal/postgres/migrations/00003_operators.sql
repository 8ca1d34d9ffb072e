-- +goose Up

-- What operators did by command: who, when, what, how far it is and what came of it. A row is never deleted.
CREATE TABLE operator_runs (
    run_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command    text NOT NULL, -- such as 'replay' or 'dead-letters retry'
    actor      text NOT NULL,
    arguments  jsonb NOT NULL, -- what it was asked to do, enough to go on with it
    state      text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed')),
    cursor     text, -- how far it is, in the command's own words
    counts     jsonb NOT NULL DEFAULT '{}',
    problem    text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL))
);
CREATE INDEX operator_runs_running ON operator_runs (run_id) WHERE state = 'running';

-- +goose Down
DROP TABLE operator_runs;
