//! What a new key is to be, and which times can be kept.

use std::time::{Duration, SystemTime};

use super::ManageError;
use crate::record::{Environment, KeyName, KeyRecord, Scopes};

/// The end of time for an expiry: the year 10000, which RFC 3339 cannot write. Since 1970.
const LATEST: Duration = Duration::from_hours(70_389_528);

/// What a new key is to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct NewKey {
    pub(super) name: KeyName,
    pub(super) environment: Option<Environment>,
    pub(super) scopes: Scopes,
    pub(super) expires_at: Option<SystemTime>,
}

impl NewKey {
    /// A key with a name, for every environment, without scopes, that does not expire.
    pub fn new(name: KeyName) -> Self {
        Self { name, environment: None, scopes: Scopes::default(), expires_at: None }
    }

    /// Binds the key to an environment, which becomes part of its text.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// What the key may be used for.
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// The first instant at which the key no longer works; kept in whole milliseconds, rounded down.
    pub fn with_expires_at(mut self, end: SystemTime) -> Self {
        self.expires_at = Some(end);
        self
    }

    /// Checked and rounded.
    pub(super) fn settled(mut self, now: SystemTime) -> Result<Self, ManageError> {
        if let Some(end) = self.expires_at {
            self.expires_at = Some(
                expiry(Some(end))
                    .ok()
                    .filter(|end| *end > now)
                    .ok_or(ManageError::InvalidExpiry)?,
            );
        }
        Ok(self)
    }

    /// What a rotation makes of an old key.
    pub(super) fn successor_of(old: &KeyRecord, now: SystemTime) -> Result<Self, ManageError> {
        let lifetime =
            old.expires_at.map(|end| end.duration_since(old.created_at).unwrap_or_default());
        Self {
            name: old.name.clone(),
            environment: old.environment.clone(),
            scopes: old.scopes.clone(),
            expires_at: lifetime.map(|lifetime| expiry(now.checked_add(lifetime))).transpose()?,
        }
        .settled(now)
    }
}

/// A time that can be stored and written: in whole milliseconds, from 1970 to the year 9999.
pub(super) fn expiry(end: Option<SystemTime>) -> Result<SystemTime, ManageError> {
    end.filter(|end| (SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + LATEST).contains(end))
        .map(to_milliseconds)
        .ok_or(ManageError::InvalidExpiry)
}

/// Rounded down, so that every store can keep it exactly. Times before 1970 are not met here.
pub(super) fn to_milliseconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(since.as_secs())
        + Duration::from_millis(since.subsec_millis().into())
}
