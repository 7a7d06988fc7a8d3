//! The statements, each in a transaction that its caller has begun.
//!
//! An account's tombstones stay for good, and its keys are few beside them. So what looks for live secrets
//! names the index that has no others (`INDEXED BY`): SQLite, which does not know how many of them live, takes
//! the index of all secrets for the better one, and would pass over every tombstone with the file locked.

use std::sync::Arc;
use std::time::SystemTime;

use sqlx::sqlite::SqliteConnection;

use super::row::{self, columns};
use crate::digest::Fingerprint;
use crate::record::{AccountId, EndCause, Environment, KeyId, KeyRecord};
use crate::store::stored::milliseconds;
use crate::store::{CHANGES_KEPT, Changes, Version};

/// How many keys of the account have not expired.
pub(super) async fn active(
    connection: &mut SqliteConnection,
    account: &AccountId,
    now: SystemTime,
) -> Result<usize, sqlx::Error> {
    let active: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM secrets INDEXED BY live_secrets_of_account
         WHERE account = ?1 AND digest IS NOT NULL AND (expires_at IS NULL OR expires_at > ?2)",
    )
    .bind(account.as_str())
    .bind(milliseconds(now))
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(active).unwrap_or(usize::MAX))
}

pub(super) async fn live(
    connection: &mut SqliteConnection,
    account: &AccountId,
    id: &KeyId,
) -> Result<Option<Arc<KeyRecord>>, sqlx::Error> {
    let row = sqlx::query(concat!(
        "SELECT ",
        columns!(),
        " FROM secrets INDEXED BY live_key_ids
         WHERE account = ?1 AND key_id = ?2 AND digest IS NOT NULL"
    ))
    .bind(account.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(row.as_ref().and_then(row::live))
}

/// Adds a row; `false` when the fingerprint or the id is taken.
pub(super) async fn file(
    connection: &mut SqliteConnection,
    record: &KeyRecord,
) -> Result<bool, sqlx::Error> {
    let filed = sqlx::query(concat!(
        "INSERT INTO secrets (",
        columns!(),
        ")
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, NULL, NULL)
         ON CONFLICT DO NOTHING"
    ))
    .bind(record.fingerprint().as_bytes().as_slice())
    .bind(record.digest.as_bytes().as_slice())
    .bind(record.id.as_str())
    .bind(record.account.as_str())
    .bind(record.name.as_str())
    .bind(record.environment.as_ref().map(Environment::as_str))
    .bind(record.scopes.to_string())
    .bind(record.sources.to_string())
    .bind(record.hint.as_str())
    .bind(milliseconds(record.created_at))
    .bind(record.expires_at.map(milliseconds))
    .bind(record.replaced_by.as_ref().map(KeyId::as_str))
    .bind(record.replaced_at.map(milliseconds))
    .bind(record.last_used_at.map(milliseconds))
    .bind(record.last_used_from.map(|address| address.to_string()))
    .bind(record.last_used_agent.as_ref().map(|agent| agent.as_bytes().as_slice()))
    .execute(connection)
    .await?;
    Ok(filed.rows_affected() == 1)
}

/// Gives a key until the end of its grace, or ends it where there is none.
pub(super) async fn supersede(
    connection: &mut SqliteConnection,
    old: &KeyRecord,
    successor: &KeyRecord,
    grace_ends: Option<SystemTime>,
) -> Result<(), sqlx::Error> {
    let Some(grace_ends) = grace_ends else {
        let at = successor.created_at;
        end(connection, &old.account, Some(&old.id), EndCause::Rotated, at).await?;
        return Ok(());
    };
    let superseded = old.superseded(successor.id.clone(), successor.created_at, grace_ends);
    sqlx::query(
        "UPDATE secrets SET expires_at = ?2, replaced_by = ?3, replaced_at = ?4
         WHERE fingerprint = ?1",
    )
    .bind(old.fingerprint().as_bytes().as_slice())
    .bind(superseded.expires_at.map(milliseconds))
    .bind(successor.id.as_str())
    .bind(superseded.replaced_at.map(milliseconds))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends one key of the account, or all of them, and returns which secrets that were.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    account: &AccountId,
    id: Option<&KeyId>,
    cause: EndCause,
    at: SystemTime,
) -> Result<Vec<Fingerprint>, sqlx::Error> {
    let one = "UPDATE secrets INDEXED BY live_key_ids
               SET digest = NULL, ended_at = ?2, ended_by = ?3
               WHERE account = ?1 AND key_id = ?4 AND digest IS NOT NULL RETURNING fingerprint";
    let all = "UPDATE secrets INDEXED BY live_secrets_of_account
               SET digest = NULL, ended_at = ?2, ended_by = ?3
               WHERE account = ?1 AND digest IS NOT NULL RETURNING fingerprint";
    let end = sqlx::query(if id.is_some() { one } else { all })
        .bind(account.as_str())
        .bind(milliseconds(at))
        .bind(cause.as_str());
    let end = match id {
        Some(id) => end.bind(id.as_str()),
        None => end,
    };
    let ended = end.fetch_all(connection).await?;
    ended.iter().map(row::fingerprint).collect()
}

/// Gives the write the next version, notes which secrets it touched, and forgets what is too old.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    touched: &[Fingerprint],
) -> Result<(), sqlx::Error> {
    let version: i64 =
        sqlx::query_scalar("UPDATE latest SET version = version + 1 RETURNING version")
            .fetch_one(&mut *connection)
            .await?;
    for fingerprint in touched {
        sqlx::query("INSERT INTO changes (version, fingerprint) VALUES (?1, ?2)")
            .bind(version)
            .bind(fingerprint.as_bytes().as_slice())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("DELETE FROM changes WHERE version <= ?1")
        .bind(version - KEPT)
        .execute(connection)
        .await?;
    Ok(())
}

/// [`CHANGES_KEPT`], as SQL counts.
#[allow(clippy::cast_possible_wrap, reason = "it is 10,000")]
const KEPT: i64 = CHANGES_KEPT as i64;

/// What was written after `since`; in a transaction, so that both answers are of one moment.
pub(super) async fn changes(
    connection: &mut SqliteConnection,
    since: Version,
) -> Result<Changes, sqlx::Error> {
    let latest: i64 =
        sqlx::query_scalar("SELECT version FROM latest").fetch_one(&mut *connection).await?;
    let latest = row::version(latest);
    if !Changes::are_known(since, latest) {
        return Ok(Changes::Forgotten { latest });
    }
    let rows =
        sqlx::query("SELECT version, fingerprint FROM changes WHERE version > ?1 ORDER BY version")
            .bind(i64::try_from(since.get()).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await?;
    let changes = rows.iter().map(row::change).collect::<Result<_, _>>()?;
    Ok(Changes::Known { latest, changes })
}
