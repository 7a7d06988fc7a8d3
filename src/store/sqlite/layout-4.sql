-- Where a key may be used from; nothing is anywhere.
ALTER TABLE secrets ADD COLUMN sources TEXT NOT NULL DEFAULT '';
-- When the successor was made.
ALTER TABLE secrets ADD COLUMN replaced_at INTEGER;
