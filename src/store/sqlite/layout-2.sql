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
