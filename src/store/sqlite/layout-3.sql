ALTER TABLE secrets ADD COLUMN last_used_from TEXT;
ALTER TABLE secrets ADD COLUMN last_used_agent BLOB CHECK (length(last_used_agent) = 8);

-- How often each key was used on each day, whichever of its secrets it was, and after its end, too. A
-- note deletes the account's old days.
CREATE TABLE usage (
    account  TEXT NOT NULL,
    day      INTEGER NOT NULL, -- days since 1970
    key_id   TEXT NOT NULL,
    requests INTEGER NOT NULL,
    refusals INTEGER NOT NULL,
    PRIMARY KEY (account, day, key_id)
) STRICT, WITHOUT ROWID;
