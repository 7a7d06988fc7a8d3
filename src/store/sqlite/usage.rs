//! The statements about the use of keys, each in a transaction that its caller has begun.

use sqlx::sqlite::SqliteConnection;

use super::row;
use crate::record::AccountId;
use crate::store::stored::{count, milliseconds};
use crate::store::{Day, KeyUsage, MOST_COUNTED, USAGE_KEPT, Use};

/// Notes a use.
pub(super) async fn mark_used(
    connection: &mut SqliteConnection,
    used: &Use,
) -> Result<(), sqlx::Error> {
    if used.requests > 0 {
        show(connection, used).await?;
    }
    if used.requests > 0 || used.refusals > 0 {
        add(connection, used).await?;
    }
    Ok(())
}

/// Shows the last request where the secret is live or was rehashed, and only forward in time.
async fn show(connection: &mut SqliteConnection, used: &Use) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE secrets SET last_used_at = ?2, last_used_from = ?3, last_used_agent = ?4
         WHERE fingerprint = coalesce(
                 (SELECT now.fingerprint FROM secrets AS old
                       JOIN secrets AS now INDEXED BY live_key_ids USING (account, key_id)
                  WHERE old.fingerprint = ?1 AND old.ended_by = 'rehashed' AND now.digest IS NOT NULL),
                 ?1)
           AND digest IS NOT NULL
           AND (last_used_at IS NULL OR last_used_at < ?2)",
    )
    .bind(used.fingerprint.as_bytes().as_slice())
    .bind(milliseconds(used.at))
    .bind(used.address.map(|address| address.to_string()))
    .bind(used.agent.as_ref().map(|agent| agent.as_bytes().as_slice()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the counts where the secret is filed, and forgets the account's old days.
async fn add(connection: &mut SqliteConnection, used: &Use) -> Result<(), sqlx::Error> {
    let day = Day::of(used.at);
    sqlx::query(
        "INSERT INTO usage (account, day, key_id, requests, refusals)
         SELECT account, ?2, key_id, ?3, ?4 FROM secrets WHERE fingerprint = ?1
         ON CONFLICT DO UPDATE SET requests = min(usage.requests + excluded.requests, ?5),
                                   refusals = min(usage.refusals + excluded.refusals, ?5)",
    )
    .bind(used.fingerprint.as_bytes().as_slice())
    .bind(day.number())
    .bind(count(used.requests))
    .bind(count(used.refusals))
    .bind(count(MOST_COUNTED))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM usage
         WHERE account = (SELECT account FROM secrets WHERE fingerprint = ?1) AND day < ?2",
    )
    .bind(used.fingerprint.as_bytes().as_slice())
    .bind(day.back(USAGE_KEPT).number())
    .execute(connection)
    .await?;
    Ok(())
}

/// What was counted of the account; one statement, so that all of it is of one moment. Of all secrets
/// of a key, the live one says its name, or else the one whose end was the key's.
pub(super) async fn usage(
    connection: &mut SqliteConnection,
    account: &AccountId,
    since: Day,
) -> Result<Vec<KeyUsage>, sqlx::Error> {
    let rows = sqlx::query(
        "WITH counted AS (SELECT * FROM usage WHERE account = ?1 AND day >= ?2),
              known AS (
                  SELECT key_id, name, ended_at, row_number() OVER (
                      PARTITION BY key_id
                      ORDER BY digest IS NULL, ended_by IN ('regenerated', 'rehashed'), ended_at DESC) AS place
                  FROM secrets
                  WHERE account = ?1 AND key_id IN (SELECT key_id FROM counted))
         SELECT key_id, name, ended_at, day, requests, refusals
         FROM counted JOIN known USING (key_id) WHERE place = 1 ORDER BY key_id, day",
    )
    .bind(account.as_str())
    .bind(since.number())
    .fetch_all(connection)
    .await?;
    Ok(row::usage(&rows))
}
