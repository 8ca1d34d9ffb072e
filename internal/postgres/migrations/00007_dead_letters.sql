-- +goose Up

-- How a dead letter ends. One that is dead, retried or dropped counts as refused for the operation it belongs to; one
-- that is resolved or superseded no longer does.
ALTER TABLE dead_letters
    -- How often it was sent again, which numbers the messages that did so: the broker drops an id that it has seen.
    ADD COLUMN retries       integer NOT NULL DEFAULT 0,
    -- What the consumer said when it was resolved, and for a role change how many tasks it moved then.
    ADD COLUMN outcome       text,
    ADD COLUMN tasks_moved   bigint,
    -- Sent again it was refused for another reason: the dead letter that it is now.
    ADD COLUMN superseded_by bigint REFERENCES dead_letters,
    -- Why somebody dropped it.
    ADD COLUMN because       text,
    DROP CONSTRAINT dead_letters_state_check,
    ADD CONSTRAINT dead_letters_state_check CHECK (state IN ('dead', 'retried', 'resolved', 'superseded', 'dropped'));

-- The messages that retried so far don't say that they do, so their end would never be seen. Refused, it is dead again.
UPDATE dead_letters SET retries = CASE WHEN state = 'dead' THEN tries - 1 ELSE tries END,
                        state = CASE WHEN state = 'retried' THEN 'resolved' ELSE state END
WHERE tries > 1 OR state <> 'dead';

-- Where a dead letter stood: a replay of the stream asks for those it delivers again.
CREATE INDEX dead_letters_place ON dead_letters (stream, stream_sequence) WHERE state = 'dead';

-- +goose Down
DROP INDEX dead_letters_place;
UPDATE dead_letters SET state = 'resolved' WHERE state = 'superseded';
ALTER TABLE dead_letters
    DROP CONSTRAINT dead_letters_state_check,
    ADD CONSTRAINT dead_letters_state_check CHECK (state IN ('dead', 'retried', 'resolved', 'dropped')),
    DROP COLUMN retries, DROP COLUMN outcome, DROP COLUMN tasks_moved, DROP COLUMN superseded_by, DROP COLUMN because;
