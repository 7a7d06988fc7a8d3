//! Between rows and records. A row that cannot be read is damaged, and is passed over with an error
//! event; it is never guessed at.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::digest::Fingerprint;
use crate::record::KeyRecord;
use crate::store::stored::{Damage, Stored, StoredUse};
use crate::store::{Change, Entry, KeyUsage, Version};

/// What [`entry`] wants to be selected, and what a new row is given, in this order.
macro_rules! columns {
    () => {
        "fingerprint, digest, key_id, account, name, environment, scopes, sources, hint, created_at, expires_at, replaced_by, replaced_at, last_used_at, last_used_from, last_used_agent, ended_at, ended_by"
    };
}
pub(super) use columns;

/// What a row holds, unless it is damaged.
pub(super) fn entry(row: &SqliteRow) -> Option<Entry> {
    read(row)
        .inspect_err(|damage| {
            let fingerprint = fingerprint(row).ok().map(tracing::field::display);
            tracing::error!(target: "tower_api_key", store = "sqlite", fingerprint, %damage, "a damaged row was passed over");
        })
        .ok()
}

/// The live record that a row holds, unless it is damaged or ended.
pub(super) fn live(row: &SqliteRow) -> Option<Arc<KeyRecord>> {
    match entry(row)? {
        Entry::Live(record) => Some(record),
        Entry::Ended(_) => None,
    }
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

/// What rows of the usage hold, in order of their keys and days, but for those that are damaged.
pub(super) fn usage(rows: &[SqliteRow]) -> Vec<KeyUsage> {
    let mut usage = Vec::new();
    for row in rows {
        if let Err(damage) = add_use(row, &mut usage) {
            tracing::error!(target: "tower_api_key", store = "sqlite", %damage, "a damaged row of the usage was passed over");
        }
    }
    usage
}

fn add_use(row: &SqliteRow, usage: &mut Vec<KeyUsage>) -> Result<(), Unreadable> {
    let stored = StoredUse {
        id: row.try_get("key_id")?,
        name: row.try_get("name")?,
        ended_at: row.try_get("ended_at")?,
        day: row.try_get("day")?,
        requests: row.try_get("requests")?,
        refusals: row.try_get("refusals")?,
    };
    Ok(stored.add_to(usage)?)
}

pub(super) fn version(number: i64) -> Version {
    Version::new(u64::try_from(number).unwrap_or(0))
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("a column cannot be read: {0}")]
    Column(#[from] sqlx::Error),
    #[error("{0}")]
    Damaged(#[from] Damage),
}

fn read(row: &SqliteRow) -> Result<Entry, Unreadable> {
    let stored = Stored {
        fingerprint: row.try_get("fingerprint")?,
        digest: row.try_get("digest")?,
        id: row.try_get("key_id")?,
        account: row.try_get("account")?,
        name: row.try_get("name")?,
        environment: row.try_get("environment")?,
        scopes: row.try_get("scopes")?,
        sources: row.try_get("sources")?,
        hint: row.try_get("hint")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        replaced_by: row.try_get("replaced_by")?,
        replaced_at: row.try_get("replaced_at")?,
        last_used_at: row.try_get("last_used_at")?,
        last_used_from: row.try_get("last_used_from")?,
        last_used_agent: row.try_get("last_used_agent")?,
        ended_at: row.try_get("ended_at")?,
        ended_by: row.try_get("ended_by")?,
    };
    Ok(stored.entry()?)
}
