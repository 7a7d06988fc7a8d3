//! Between rows and records. A row that cannot be read is damaged, and is passed over with an error
//! event; it is never guessed at.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::digest::Fingerprint;
use crate::record::KeyRecord;
use crate::store::stored::{Damage, Stored, StoredUse};
use crate::store::{Change, Entry, KeyUsage, Version};

/// What [`entry`] wants to be selected. Bytes as hex, which means the same in both of the protocol's
/// formats and under every setting of the server.
macro_rules! columns {
    () => {
        "encode(fingerprint, 'hex') AS fingerprint, encode(digest, 'hex') AS digest, key_id, account, name, environment, scopes, sources, hint, created_at, expires_at, replaced_by, replaced_at, last_used_at, last_used_from, encode(last_used_agent, 'hex') AS last_used_agent, ended_at, ended_by"
    };
}
pub(super) use columns;

/// What a row holds, unless it is damaged.
pub(super) fn entry(row: &PgRow) -> Option<Entry> {
    read(row)
        .inspect_err(|damage| {
            let fingerprint = fingerprint(row).ok().map(tracing::field::display);
            tracing::error!(target: "tower_api_key", store = "postgres", fingerprint, %damage, "a damaged row was passed over");
        })
        .ok()
}

/// The live record that a row holds, unless it is damaged or ended.
pub(super) fn live(row: &PgRow) -> Option<Arc<KeyRecord>> {
    match entry(row)? {
        Entry::Live(record) => Some(record),
        Entry::Ended(_) => None,
    }
}

/// The secret that a row is about.
pub(super) fn fingerprint(row: &PgRow) -> Result<Fingerprint, sqlx::Error> {
    Ok(Fingerprint::from_bytes(eight_bytes(row.try_get("fingerprint")?)?))
}

fn eight_bytes(hex: &str) -> Result<[u8; 8], sqlx::Error> {
    let mut bytes = [0; 8];
    hex::decode_to_slice(hex, &mut bytes)
        .map_err(|damage| sqlx::Error::Decode(damage.to_string().into()))?;
    Ok(bytes)
}

/// What a row of the changes holds.
pub(super) fn change(row: &PgRow) -> Result<Change, sqlx::Error> {
    Ok(Change { version: version(row.try_get("version")?), fingerprint: fingerprint(row)? })
}

/// What rows of the usage hold, in order of their keys and days, but for those that are damaged.
pub(super) fn usage(rows: &[PgRow]) -> Vec<KeyUsage> {
    let mut usage = Vec::new();
    for row in rows {
        if let Err(damage) = add_use(row, &mut usage) {
            tracing::error!(target: "tower_api_key", store = "postgres", %damage, "a damaged row of the usage was passed over");
        }
    }
    usage
}

fn add_use(row: &PgRow, usage: &mut Vec<KeyUsage>) -> Result<(), Unreadable> {
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

fn read(row: &PgRow) -> Result<Entry, Unreadable> {
    let fingerprint = fingerprint(row)?;
    let mut bytes = [0; 32];
    let digest: Option<&str> = row.try_get("digest")?;
    let digest = match digest.map(|hex| hex::decode_to_slice(hex, &mut bytes)) {
        Some(Ok(())) => Some(&bytes[..]),
        Some(Err(_)) => return Err(Damage::Value("digest").into()),
        None => None,
    };
    let agent: Option<&str> = row.try_get("last_used_agent")?;
    let agent = agent.map(eight_bytes).transpose()?;
    let stored = Stored {
        fingerprint: fingerprint.as_bytes(),
        digest,
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
        last_used_agent: agent.as_ref().map(<[u8; 8]>::as_slice),
        ended_at: row.try_get("ended_at")?,
        ended_by: row.try_get("ended_by")?,
    };
    Ok(stored.entry()?)
}
