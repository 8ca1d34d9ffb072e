-- +goose Up

-- Up to where each stream was compared with the outbox: which stream it was, by the time it was created, and which message
-- stood at the end. What is found past that is new, or the stream is another one, or lost its end.
CREATE TABLE stream_marks (
    stream     text PRIMARY KEY,
    created    timestamptz NOT NULL,
    sequence   bigint NOT NULL,
    message_id text, -- of the message there; NULL when there was none, or one without an id
    looked_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The places on one stream, by its identity: those of others are on streams that are gone.
CREATE INDEX outbox_published_place ON outbox_published (stream, stream_created, last_sequence);
DROP INDEX outbox_published_stream;

-- While the row is here, no mail goes out from any process. Windows go on gathering and closing.
CREATE TABLE mail_hold (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason   text NOT NULL,
    held_by  text NOT NULL
);

-- How often a person had the mail of a notice sent again; each time it is a new mail.
ALTER TABLE notices ADD COLUMN resends integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE notices DROP COLUMN resends;
DROP TABLE mail_hold;
CREATE INDEX outbox_published_stream ON outbox_published (stream, last_sequence);
DROP INDEX outbox_published_place;
DROP TABLE stream_marks;
