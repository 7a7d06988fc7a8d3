-- Tombstones stay for good: what looks for live secrets must not pass over them.
CREATE INDEX IF NOT EXISTS live_secrets_of_account ON tower_api_key.secrets (account, created_at, key_id COLLATE "C")
    WHERE digest IS NOT NULL;
-- What the ended secrets of a key have left.
CREATE INDEX IF NOT EXISTS secrets_of_key ON tower_api_key.secrets (account, key_id);
