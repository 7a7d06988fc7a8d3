ALTER TABLE tower_api_key.secrets
    ADD COLUMN last_used_from  TEXT,
    ADD COLUMN last_used_agent BYTEA CHECK (octet_length(last_used_agent) = 8);

-- How often each key was used on each day, whichever of its secrets it was, and after its end, too. A
-- note deletes the account's old days.
CREATE TABLE tower_api_key.usage (
    account  TEXT NOT NULL,
    day      BIGINT NOT NULL, -- days since 1970
    key_id   TEXT NOT NULL,
    requests BIGINT NOT NULL,
    refusals BIGINT NOT NULL,
    PRIMARY KEY (account, day, key_id)
);
