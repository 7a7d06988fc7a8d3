//! What a client may see of a key. Nothing else of a record is ever written.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::key::RevealedKey;
use crate::record::{KeyRecord, Scope};

/// A key, without its secret.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ApiKey))]
pub(super) struct KeyView {
    /// The key's stable id. Regenerating keeps it.
    id: String,
    /// What its owner calls it.
    name: String,
    /// The environment that it is bound to, if any.
    environment: Option<String>,
    /// Enough to recognise the key by: its beginning and its last characters.
    hint: String,
    /// What it may be used for.
    scopes: Vec<String>,
    /// The addresses and blocks that it may be used from; none is anywhere.
    sources: Vec<String>,
    /// When it was made.
    #[serde(serialize_with = "rfc_3339")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    created_at: SystemTime,
    /// The first instant at which it no longer works.
    #[serde(serialize_with = "rfc_3339_or_null")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    expires_at: Option<SystemTime>,
    /// When it was last used, to about ten seconds.
    #[serde(serialize_with = "rfc_3339_or_null")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    last_used_at: Option<SystemTime>,
    /// Whether it works.
    status: Status,
}

/// Whether a key works.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ApiKeyStatus))]
pub(super) enum Status {
    Active,
    Expired,
}

impl KeyView {
    pub(super) fn of(record: &KeyRecord, now: SystemTime) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            environment: record.environment.as_ref().map(ToString::to_string),
            hint: record.hint.to_string(),
            scopes: record.scopes.iter().map(Scope::to_string).collect(),
            sources: record.sources.to_string().split_whitespace().map(str::to_owned).collect(),
            created_at: record.created_at,
            expires_at: record.expires_at,
            last_used_at: record.last_used_at,
            status: if record.is_expired(now) { Status::Expired } else { Status::Active },
        }
    }
}

/// A key that was just made, with its secret: the one answer that has it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = NewApiKey))]
pub(super) struct IssuedView {
    #[serde(flatten)]
    key: KeyView,
    /// The key itself. Shown only now: nobody can get it again.
    #[serde(serialize_with = "revealed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    api_key: RevealedKey,
}

impl IssuedView {
    pub(super) fn of(record: &KeyRecord, api_key: RevealedKey, now: SystemTime) -> Self {
        Self { key: KeyView::of(record, now), api_key }
    }
}

/// A page of an account's keys, oldest first.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = ApiKeyList))]
pub(super) struct ListView {
    data: Vec<KeyView>,
    /// How many active keys the account has, on all pages.
    active: usize,
    /// How many active keys it may have.
    limit: usize,
}

impl ListView {
    pub(super) fn of(
        shown: &[Arc<KeyRecord>],
        all: &[Arc<KeyRecord>],
        limit: usize,
        now: SystemTime,
    ) -> Self {
        Self {
            data: shown.iter().map(|record| KeyView::of(record, now)).collect(),
            active: all.iter().filter(|record| !record.is_expired(now)).count(),
            limit,
        }
    }
}

fn revealed<S: Serializer>(key: &RevealedKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.as_str())
}

/// To the millisecond, in UTC, as `2026-01-31T09:30:00.000Z`.
fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // Only what another program filed ends after that.
    let time = Timestamp::try_from(*time).unwrap_or(Timestamp::MAX);
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn rfc_3339_or_null<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc_3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
