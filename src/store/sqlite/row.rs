//! Between rows and records. A row that cannot be read is damaged, and is passed over with an error
//! event; it is never guessed at.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{EndCause, Hint, InvalidText, KeyRecord, Tombstone};
use crate::store::{Change, Entry, Version};

/// What [`entry`] wants to be selected, and what a new row is given, in this order.
macro_rules! columns {
    () => {
        "fingerprint, digest, key_id, account, name, environment, scopes, hint, created_at, expires_at, replaced_by, last_used_at, ended_at, ended_by"
    };
}
pub(super) use columns;

/// What a row holds, unless it is damaged.
pub(super) fn entry(row: &SqliteRow) -> Option<Entry> {
    read(row)
        .inspect_err(|damage| {
            let fingerprint = row.try_get("fingerprint").ok().and_then(|bytes: &[u8]| bytes.try_into().ok());
            let fingerprint = fingerprint.map(Fingerprint::from_bytes).map(tracing::field::display);
            tracing::error!(target: "tower_api_key", store = "sqlite", fingerprint, %damage, "a damaged row was passed over");
        })
        .ok()
}

/// The secret that a row is about.
pub(super) fn fingerprint(row: &SqliteRow) -> Result<Fingerprint, sqlx::Error> {
    let bytes: &[u8] = row.try_get("fingerprint")?;
    let bytes = bytes.try_into().map_err(|damage| sqlx::Error::Decode(Box::new(damage)))?;
    Ok(Fingerprint::from_bytes(bytes))
}

/// What a row of the changes holds.
pub(super) fn change(row: &SqliteRow) -> Result<Change, sqlx::Error> {
    Ok(Change { version: version(row.try_get("version")?), fingerprint: fingerprint(row)? })
}

pub(super) fn version(number: i64) -> Version {
    Version::new(u64::try_from(number).unwrap_or(0))
}

/// The live record that a row holds, unless it is damaged or ended.
pub(super) fn live(row: &SqliteRow) -> Option<Arc<KeyRecord>> {
    match entry(row)? {
        Entry::Live(record) => Some(record),
        Entry::Ended(_) => None,
    }
}

pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("a column cannot be read: {0}")]
    Column(#[from] sqlx::Error),
    #[error("{0}")]
    Text(#[from] InvalidText),
    #[error("the {0} is not one")]
    Value(&'static str),
}

fn read(row: &SqliteRow) -> Result<Entry, Damage> {
    let fingerprint: &[u8] = row.try_get("fingerprint")?;
    let fingerprint = fingerprint.try_into().map_err(|_| Damage::Value("fingerprint"))?;
    let fingerprint = Fingerprint::from_bytes(fingerprint);
    let digest: Option<&[u8]> = row.try_get("digest")?;
    let id = row.try_get::<&str, _>("key_id")?.parse()?;
    let account = row.try_get::<&str, _>("account")?.parse()?;
    let name = row.try_get::<&str, _>("name")?.parse()?;
    let Some(digest) = digest else {
        return Ok(Entry::Ended(Arc::new(Tombstone {
            fingerprint,
            key: id,
            account,
            name,
            cause: cause(row.try_get("ended_by")?)?,
            ended_at: time(row.try_get("ended_at")?)?,
        })));
    };
    let digest = KeyDigest::from_bytes(digest.try_into().map_err(|_| Damage::Value("digest"))?);
    if digest.fingerprint() != fingerprint {
        return Err(Damage::Value("digest"));
    }
    let environment: Option<&str> = row.try_get("environment")?;
    let expires_at: Option<i64> = row.try_get("expires_at")?;
    let replaced_by: Option<&str> = row.try_get("replaced_by")?;
    let last_used_at: Option<i64> = row.try_get("last_used_at")?;
    Ok(Entry::Live(Arc::new(KeyRecord {
        environment: environment.map(str::parse).transpose()?,
        scopes: row.try_get::<&str, _>("scopes")?.parse()?,
        hint: hint(row.try_get("hint")?)?,
        expires_at: expires_at.map(time).transpose()?,
        replaced_by: replaced_by.map(str::parse).transpose()?,
        last_used_at: last_used_at.map(time).transpose()?,
        ..KeyRecord::new(id, account, name, digest, time(row.try_get("created_at")?)?)
    })))
}

fn time(milliseconds: i64) -> Result<SystemTime, Damage> {
    u64::try_from(milliseconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since)))
        .ok_or(Damage::Value("time"))
}

fn hint(text: &str) -> Result<Hint, InvalidText> {
    if text.is_empty() { Ok(Hint::default()) } else { text.parse() }
}

fn cause(word: &str) -> Result<EndCause, Damage> {
    [EndCause::Deleted, EndCause::Regenerated, EndCause::Rotated]
        .into_iter()
        .find(|cause| cause.as_str() == word)
        .ok_or(Damage::Value("cause of the end"))
}
