//! The statements, each in a transaction that its caller has begun.
//!
//! None is kept prepared on its connection (`persistent(false)`): behind a pooler that gives every
//! transaction another connection, what was prepared on one is unknown to the next.

use std::sync::Arc;
use std::time::SystemTime;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};

use super::connections::run;
use super::row::{self, columns};
use super::transaction::Milliseconds;
use crate::digest::Fingerprint;
use crate::record::{AccountId, EndCause, Environment, KeyId, KeyName, KeyRecord};
use crate::store::stored::milliseconds;
use crate::store::{CHANGES_KEPT, Changes, ReplicaId, Version};

/// What finds one secret, in one message that holds nothing but its sixteen hexadecimal digits, and
/// that the server gives up when nobody waits for the answer any more.
pub(super) fn find(fingerprint: Fingerprint, limit: Milliseconds) -> String {
    format!(
        concat!(
            "SET LOCAL statement_timeout = {}; SELECT ",
            columns!(),
            " FROM tower_api_key.secrets WHERE fingerprint = decode('{}', 'hex')"
        ),
        limit, fingerprint
    )
}

/// Locks the account's row, and makes it if there is none.
pub(super) async fn lock(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<(), sqlx::Error> {
    query(
        "INSERT INTO tower_api_key.accounts VALUES ($1)
         ON CONFLICT (account) DO UPDATE SET account = excluded.account",
    )
    .bind(account.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the account's row, which locks it; `false` when there is one. Of two at once, the second
/// waits to see whether the first commits.
pub(super) async fn lock_new(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<bool, sqlx::Error> {
    let made = query("INSERT INTO tower_api_key.accounts VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(account.as_str())
        .execute(connection)
        .await?;
    Ok(made.rows_affected() == 1)
}

/// Locks the account's row, if there is one.
pub(super) async fn lock_known(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<(), sqlx::Error> {
    query("SELECT 1 FROM tower_api_key.accounts WHERE account = $1 FOR UPDATE")
        .bind(account.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

/// How many keys of the account have not expired.
pub(super) async fn active(
    connection: &mut PgConnection,
    account: &AccountId,
    now: SystemTime,
) -> Result<usize, sqlx::Error> {
    let active: i64 = query(
        "SELECT count(*) FROM tower_api_key.secrets
         WHERE account = $1 AND digest IS NOT NULL AND (expires_at IS NULL OR expires_at > $2)",
    )
    .bind(account.as_str())
    .bind(milliseconds(now))
    .fetch_one(connection)
    .await?
    .try_get(0)?;
    Ok(usize::try_from(active).unwrap_or(usize::MAX))
}

/// A live record.
pub(super) async fn live(
    connection: &mut PgConnection,
    account: &AccountId,
    id: &KeyId,
) -> Result<Option<Arc<KeyRecord>>, sqlx::Error> {
    let row = query(concat!(
        "SELECT ",
        columns!(),
        " FROM tower_api_key.secrets WHERE account = $1 AND key_id = $2 AND digest IS NOT NULL"
    ))
    .bind(account.as_str())
    .bind(id.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(row.as_ref().and_then(row::live))
}

/// The account's live records, oldest first.
pub(super) async fn list(
    connection: &mut PgConnection,
    account: &AccountId,
) -> Result<Vec<Arc<KeyRecord>>, sqlx::Error> {
    // Ids are compared byte by byte, as everywhere else, and not by the database's language.
    let rows = query(concat!(
        "SELECT ",
        columns!(),
        " FROM tower_api_key.secrets WHERE account = $1 AND digest IS NOT NULL
          ORDER BY created_at, key_id COLLATE \"C\""
    ))
    .bind(account.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().filter_map(row::live).collect())
}

/// Adds a row; `false` when the fingerprint or the id is taken.
pub(super) async fn file(
    connection: &mut PgConnection,
    record: &KeyRecord,
) -> Result<bool, sqlx::Error> {
    let filed = query(
        "INSERT INTO tower_api_key.secrets
            (fingerprint, digest, key_id, account, name, environment, scopes, sources, hint,
             created_at, expires_at, replaced_by, replaced_at, last_used_at, last_used_from,
             last_used_agent)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT DO NOTHING",
    )
    .bind(record.fingerprint().as_bytes().to_vec())
    .bind(record.digest.as_bytes().to_vec())
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
    .bind(record.last_used_agent.map(|agent| agent.as_bytes().to_vec()))
    .execute(connection)
    .await?;
    Ok(filed.rows_affected() == 1)
}

pub(super) async fn rename(
    connection: &mut PgConnection,
    account: &AccountId,
    id: &KeyId,
    name: &KeyName,
) -> Result<(), sqlx::Error> {
    query(
        "UPDATE tower_api_key.secrets SET name = $3
         WHERE account = $1 AND key_id = $2 AND digest IS NOT NULL",
    )
    .bind(account.as_str())
    .bind(id.as_str())
    .bind(name.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives a key until the end of its grace, or ends it where there is none.
pub(super) async fn supersede(
    connection: &mut PgConnection,
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
    query(
        "UPDATE tower_api_key.secrets SET expires_at = $2, replaced_by = $3, replaced_at = $4
         WHERE fingerprint = $1",
    )
    .bind(old.fingerprint().as_bytes().to_vec())
    .bind(superseded.expires_at.map(milliseconds))
    .bind(successor.id.as_str())
    .bind(superseded.replaced_at.map(milliseconds))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends one key of the account, or all of them, and returns which secrets that were.
pub(super) async fn end(
    connection: &mut PgConnection,
    account: &AccountId,
    id: Option<&KeyId>,
    cause: EndCause,
    at: SystemTime,
) -> Result<Vec<Fingerprint>, sqlx::Error> {
    // Two statements, so that each has the index that it needs, however it is planned.
    let one = "UPDATE tower_api_key.secrets SET digest = NULL, ended_at = $2, ended_by = $3
               WHERE account = $1 AND key_id = $4 AND digest IS NOT NULL
               RETURNING encode(fingerprint, 'hex') AS fingerprint";
    let all = "UPDATE tower_api_key.secrets SET digest = NULL, ended_at = $2, ended_by = $3
               WHERE account = $1 AND digest IS NOT NULL
               RETURNING encode(fingerprint, 'hex') AS fingerprint";
    let end = query(if id.is_some() { one } else { all })
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

/// What was written after `since`: one statement, so that all of it is of one moment.
pub(super) async fn changes(
    connection: &mut PgConnection,
    since: Version,
) -> Result<Changes, sqlx::Error> {
    let rows = run(connection, format!("SELECT {}", changes_after(since))).await?;
    changed(&rows, since)
}

/// Whether a replica is enrolled and under no suspicion, and what was written after `since`, in one
/// statement likewise.
pub(super) fn is_enrolled_and_changes(replica: ReplicaId, since: Version) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM tower_api_key.replicas
                        WHERE id = decode('{replica}', 'hex') AND NOT is_suspected) AS is_enrolled,
                {}",
        changes_after(since)
    )
}

/// The end of a statement that gives what [`changed`] reads.
fn changes_after(since: Version) -> String {
    let since = i64::try_from(since.get()).unwrap_or(i64::MAX);
    format!(
        "latest.version AS latest, changes.version, encode(fingerprint, 'hex') AS fingerprint
         FROM tower_api_key.latest LEFT JOIN tower_api_key.changes
           ON changes.version > {since} AND latest.version - {CHANGES_KEPT} <= {since}
         ORDER BY changes.version"
    )
}

/// What was written after `since`, from these rows.
pub(super) fn changed(rows: &[PgRow], since: Version) -> Result<Changes, sqlx::Error> {
    let latest = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("latest")?;
    let latest = row::version(latest);
    if !Changes::are_known(since, latest) {
        return Ok(Changes::Forgotten { latest });
    }
    let mut changes = Vec::new();
    for row in rows {
        if row.try_get::<Option<i64>, _>("version")?.is_some() {
            changes.push(row::change(row)?);
        }
    }
    Ok(Changes::Known { latest, changes })
}

/// A statement that is not kept prepared.
pub(super) fn query(statement: &'static str) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(statement).persistent(false)
}
