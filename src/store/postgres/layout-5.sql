-- What layout 4 has replaced.
DROP INDEX IF EXISTS tower_api_key.secrets_of_account;
