CREATE TABLE tower_api_key.layout (
    number INTEGER NOT NULL
);
INSERT INTO tower_api_key.layout VALUES (1);

-- Every account that ever had a key. Whoever writes to an account's keys locks its row first.
CREATE TABLE tower_api_key.accounts (
    account TEXT PRIMARY KEY
);

-- One row for every secret that ever was, filed under its fingerprint. Ending a secret wipes its
-- digest in place: the row is then a tombstone, and nothing can make it live again.
CREATE TABLE tower_api_key.secrets (
    fingerprint  BYTEA PRIMARY KEY CHECK (octet_length(fingerprint) = 8),
    digest       BYTEA CHECK (octet_length(digest) = 32 AND substring(digest FOR 8) = fingerprint),
    key_id       TEXT NOT NULL,
    account      TEXT NOT NULL,
    name         TEXT NOT NULL,
    environment  TEXT,
    scopes       TEXT NOT NULL,
    hint         TEXT NOT NULL,
    created_at   BIGINT NOT NULL, -- all times: milliseconds since 1970
    expires_at   BIGINT,
    replaced_by  TEXT,
    last_used_at BIGINT,
    ended_at     BIGINT,
    ended_by     TEXT,
    CHECK ((digest IS NULL) = (ended_at IS NOT NULL)),
    CHECK ((digest IS NULL) = (ended_by IS NOT NULL))
);
CREATE UNIQUE INDEX live_key_ids ON tower_api_key.secrets (key_id) WHERE digest IS NOT NULL;
CREATE INDEX secrets_of_account ON tower_api_key.secrets (account, created_at, key_id);

-- How many writes there were; one row. A write locks it last and until its commit, so that versions
-- are given in the order of commits, which a sequence does not do.
CREATE TABLE tower_api_key.latest (
    version BIGINT NOT NULL
);
INSERT INTO tower_api_key.latest VALUES (0);

-- What the last of them touched.
CREATE TABLE tower_api_key.changes (
    version     BIGINT NOT NULL,
    fingerprint BYTEA NOT NULL,
    PRIMARY KEY (version, fingerprint)
);

-- The replicas that may answer from memory, and up to which version each has applied what changed.
CREATE TABLE tower_api_key.replicas (
    id bytea PRIMARY KEY,
    applied bigint NOT NULL,
    -- Such a one never gets another lease.
    is_suspected boolean NOT NULL
);
