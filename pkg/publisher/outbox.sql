-- What Handover is yet to be told. A row is a message of its own; the relay deletes it once the stream has it.
CREATE TABLE IF NOT EXISTS handover_outbox (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL UNIQUE, -- one for tenant, source and id of the event
    subject    text NOT NULL,
    body       bytea NOT NULL, -- a structured CloudEvent
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
