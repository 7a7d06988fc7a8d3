ALTER TABLE secrets ADD COLUMN last_used_at INTEGER;

-- How many writes there were; one row. Every write holds the file's write lock, so that versions are
-- given in the order of commits.
CREATE TABLE latest (
    version INTEGER NOT NULL
) STRICT;
INSERT INTO latest VALUES (0);

-- What the last of them touched.
CREATE TABLE changes (
    version     INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    PRIMARY KEY (version, fingerprint)
) STRICT, WITHOUT ROWID;

-- The replicas that may answer from memory, and up to which version each has applied what changed.
CREATE TABLE replicas (
    id BLOB PRIMARY KEY,
    applied INTEGER NOT NULL,
    -- Such a one never gets another lease.
    is_suspected INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
