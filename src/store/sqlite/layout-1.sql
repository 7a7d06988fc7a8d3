-- One row for every secret that ever was, filed under its fingerprint. Ending a secret wipes its
-- digest in place: the row is then a tombstone, and nothing can make it live again.
CREATE TABLE secrets (
    fingerprint BLOB NOT NULL PRIMARY KEY CHECK (length(fingerprint) = 8),
    digest      BLOB CHECK (length(digest) = 32 AND substr(digest, 1, 8) = fingerprint),
    key_id      TEXT NOT NULL,
    account     TEXT NOT NULL,
    name        TEXT NOT NULL,
    environment TEXT,
    scopes      TEXT NOT NULL,
    hint        TEXT NOT NULL,
    created_at  INTEGER NOT NULL, -- all times: milliseconds since 1970
    expires_at  INTEGER,
    replaced_by TEXT,
    ended_at    INTEGER,
    ended_by    TEXT,
    CHECK ((digest IS NULL) = (ended_at IS NOT NULL)),
    CHECK ((digest IS NULL) = (ended_by IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX live_key_ids ON secrets (key_id) WHERE digest IS NOT NULL;
CREATE INDEX secrets_of_account ON secrets (account, created_at, key_id);
