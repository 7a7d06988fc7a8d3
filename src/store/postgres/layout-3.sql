-- Where a key may be used from; nothing is anywhere.
ALTER TABLE tower_api_key.secrets ADD COLUMN sources TEXT NOT NULL DEFAULT '';
-- When the successor was made.
ALTER TABLE tower_api_key.secrets ADD COLUMN replaced_at BIGINT;
