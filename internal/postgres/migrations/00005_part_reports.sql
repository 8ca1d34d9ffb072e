-- +goose Up

-- What every process says of its parts, every few seconds: that they run, how much they do, and their last trouble. Times
-- are by this database's clock. A row that nobody has renewed for half a minute is of a process that is gone; after a day
-- it is removed.
CREATE TABLE part_reports (
    process_id    text COLLATE "C" NOT NULL, -- new at every start
    part          text COLLATE "C" NOT NULL,
    process       text NOT NULL, -- for people: host and pid
    version       text NOT NULL,
    running       boolean NOT NULL, -- false: it was stopped in order
    started_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,
    rates         jsonb NOT NULL DEFAULT '{}', -- what it did per second, over the last minute
    errors        bigint NOT NULL DEFAULT 0, -- since its start
    last_error    text,
    last_error_at timestamptz,
    -- From the first error in a row until it is well again; while the end is ahead, it is not.
    trouble_since timestamptz,
    trouble_until timestamptz,
    PRIMARY KEY (process_id, part),
    CHECK ((errors > 0) = (last_error_at IS NOT NULL))
) WITH (fillfactor = 50);

-- +goose Down
DROP TABLE part_reports;
