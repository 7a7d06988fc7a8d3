//! The statements about the use of keys, each in a transaction that its caller has begun.

use sqlx::postgres::PgConnection;

use super::row;
use super::statements::query;
use crate::record::AccountId;
use crate::store::stored::{count, milliseconds};
use crate::store::{Day, KeyUsage, MOST_COUNTED, USAGE_KEPT, Use};

/// Notes uses.
pub(super) async fn mark_used(
    connection: &mut PgConnection,
    uses: &[Use],
) -> Result<(), sqlx::Error> {
    lock_owners(connection, uses).await?;
    let accepted: Vec<_> = uses.iter().filter(|used| used.requests > 0).copied().collect();
    show(connection, &accepted).await?;
    let is_counted = |used: &&Use| used.requests > 0 || used.refusals > 0;
    let counted: Vec<_> = uses.iter().filter(is_counted).copied().collect();
    add(connection, &counted).await?;
    forget(connection, &counted).await
}

/// Locks the rows of the accounts that own these secrets, in an order that is everybody's.
async fn lock_owners(connection: &mut PgConnection, uses: &[Use]) -> Result<(), sqlx::Error> {
    query(
        "SELECT 1 FROM tower_api_key.accounts WHERE account IN
             (SELECT account FROM tower_api_key.secrets WHERE fingerprint = ANY ($1))
         ORDER BY account FOR UPDATE",
    )
    .bind(fingerprints(uses))
    .execute(connection)
    .await?;
    Ok(())
}

/// Shows the last request where the secret is live or was rehashed, and only forward in time.
async fn show(connection: &mut PgConnection, uses: &[Use]) -> Result<(), sqlx::Error> {
    let times: Vec<_> = uses.iter().map(|used| milliseconds(used.at)).collect();
    let address = |used: &Use| used.address.map(|address| address.to_string());
    let agent = |used: &Use| used.agent.map(|agent| agent.as_bytes().to_vec());
    query(
        "WITH used AS (
             SELECT DISTINCT ON (1) coalesce(now.fingerprint, uses.fingerprint) AS fingerprint,
                    at, address, agent
             FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bytea[])
                  WITH ORDINALITY AS uses (fingerprint, at, address, agent, place)
                  LEFT JOIN tower_api_key.secrets AS old
                      ON old.fingerprint = uses.fingerprint AND old.ended_by = 'rehashed'
                  LEFT JOIN tower_api_key.secrets AS now
                      ON now.account = old.account AND now.key_id = old.key_id
                         AND now.digest IS NOT NULL
             ORDER BY 1, at DESC, place
         )
         UPDATE tower_api_key.secrets
         SET last_used_at = used.at, last_used_from = used.address, last_used_agent = used.agent
         FROM used WHERE secrets.fingerprint = used.fingerprint
             AND digest IS NOT NULL AND (last_used_at IS NULL OR last_used_at < used.at)",
    )
    .bind(fingerprints(uses))
    .bind(times)
    .bind(uses.iter().map(address).collect::<Vec<_>>())
    .bind(uses.iter().map(agent).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the counts where the secrets are filed. The sum of a call is no `bigint` before it is cut.
async fn add(connection: &mut PgConnection, uses: &[Use]) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO tower_api_key.usage AS usage (account, day, key_id, requests, refusals)
         SELECT account, day, key_id, least(sum(requests), $5)::bigint, least(sum(refusals), $5)::bigint
         FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
              AS uses (fingerprint, day, requests, refusals)
              JOIN tower_api_key.secrets USING (fingerprint)
         GROUP BY account, day, key_id
         ON CONFLICT (account, day, key_id) DO UPDATE
         SET requests = least(usage.requests + excluded.requests, $5),
             refusals = least(usage.refusals + excluded.refusals, $5)",
    )
    .bind(fingerprints(uses))
    .bind(days(uses, 0))
    .bind(uses.iter().map(|used| count(used.requests)).collect::<Vec<_>>())
    .bind(uses.iter().map(|used| count(used.refusals)).collect::<Vec<_>>())
    .bind(count(MOST_COUNTED))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the old days of the accounts that own these secrets.
async fn forget(connection: &mut PgConnection, uses: &[Use]) -> Result<(), sqlx::Error> {
    query(
        "DELETE FROM tower_api_key.usage USING (
             SELECT account, max(oldest) AS oldest
             FROM unnest($1::bytea[], $2::bigint[]) AS uses (fingerprint, oldest)
                  JOIN tower_api_key.secrets USING (fingerprint)
             GROUP BY account
         ) AS kept
         WHERE usage.account = kept.account AND usage.day < kept.oldest",
    )
    .bind(fingerprints(uses))
    .bind(days(uses, USAGE_KEPT))
    .execute(connection)
    .await?;
    Ok(())
}

/// What was counted of the account; one statement, so that all of it is of one moment. Of all secrets
/// of a key, the live one says its name, or else the one whose end was the key's.
pub(super) async fn usage(
    connection: &mut PgConnection,
    account: &AccountId,
    since: Day,
) -> Result<Vec<KeyUsage>, sqlx::Error> {
    let rows = query(
        "WITH counted AS (
             SELECT * FROM tower_api_key.usage WHERE account = $1 AND day >= $2
         ), known AS (
             SELECT DISTINCT ON (key_id) key_id, name, ended_at
             FROM tower_api_key.secrets
             WHERE account = $1 AND key_id IN (SELECT key_id FROM counted)
             ORDER BY key_id, digest IS NULL, ended_by IN ('regenerated', 'rehashed'), ended_at DESC
         )
         SELECT key_id, name, ended_at, day, requests, refusals
         FROM counted JOIN known USING (key_id) ORDER BY key_id COLLATE \"C\", day",
    )
    .bind(account.as_str())
    .bind(i64::from(since.number()))
    .fetch_all(connection)
    .await?;
    Ok(row::usage(&rows))
}

fn fingerprints(uses: &[Use]) -> Vec<Vec<u8>> {
    uses.iter().map(|used| used.fingerprint.as_bytes().to_vec()).collect()
}

/// The days that are so many days before those of the uses.
fn days(uses: &[Use], back: u32) -> Vec<i64> {
    uses.iter().map(|used| i64::from(Day::of(used.at).back(back).number())).collect()
}
