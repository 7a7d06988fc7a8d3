-- Tombstones stay for good: what looks for live secrets must not pass over them.
CREATE INDEX live_secrets_of_account ON secrets (account, created_at, key_id) WHERE digest IS NOT NULL;
-- Whether an account ever had a key, and what the ended secrets of one have left.
CREATE INDEX secrets_of_key ON secrets (account, key_id);
DROP INDEX secrets_of_account;
