//! What a new key is to be, and which times can be kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{ManageError, generate};
use crate::clock::to_milliseconds;
use crate::record::{
    AccountId, Environment, IdempotencyKey, KeyId, KeyName, KeyRecord, Scopes, Sources,
};

/// The end of time for an expiry, since 1970: 9999-12-30T22:00:00Z. RFC 3339 writes no year 10000, and `jiff`
/// nothing that is in it anywhere on earth.
const LATEST: Duration = Duration::from_hours(70_389_502);

/// What a new key is to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct NewKey {
    pub(super) name: KeyName,
    pub(super) environment: Option<Environment>,
    pub(super) scopes: Scopes,
    pub(super) sources: Sources,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) idempotency_key: Option<IdempotencyKey>,
}

impl NewKey {
    /// A key with a name, for every environment, without scopes, from anywhere, that does not expire.
    pub fn new(name: KeyName) -> Self {
        Self {
            name,
            environment: None,
            scopes: Scopes::default(),
            sources: Sources::default(),
            expires_at: None,
            idempotency_key: None,
        }
    }

    /// Binds the key to an environment, which becomes part of its text: it works where
    /// [`ApiKeyLayer::with_environment`](crate::ApiKeyLayer::with_environment) names that one, or
    /// `with_any_environment` takes all.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// What the key may be used for.
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Where the key may be used from; from elsewhere it is refused like an unknown one. The layer must
    /// know where requests come from: by the socket's peer or the word of a trusted proxy
    /// ([`TrustedProxies`](crate::TrustedProxies) says in which header). Where it does not, such a key is refused.
    ///
    /// ```
    /// use tower_api_key::NewKey;
    ///
    /// let office = NewKey::new("Office".parse()?).with_sources("203.0.113.0/24 2001:db8::7".parse()?);
    /// # let _ = office;
    /// # Ok::<_, tower_api_key::InvalidText>(())
    /// ```
    pub fn with_sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// The first instant at which the key no longer works; kept in whole milliseconds, rounded down.
    pub fn with_expires_at(mut self, end: SystemTime) -> Self {
        self.expires_at = Some(end);
        self
    }

    /// Makes the creation one that can be repeated when its answer was lost: the account has one key of
    /// each idempotency key, and a repeat is told [which](ManageError::AlreadyMade), on any replica and
    /// at any time. Once that key is deleted, a repeat makes a new one, with the id of the old one.
    pub fn with_idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.idempotency_key = Some(key);
        self
    }

    /// The id of the key to be: drawn, or the one that belongs to the idempotency key, under which
    /// the store takes one record of the account and no second.
    pub(super) fn id(&self, account: &AccountId) -> Result<KeyId, ManageError> {
        self.idempotent_id(account)?.map_or_else(generate::id, Ok)
    }

    /// The id that belongs to the idempotency key, if there is one.
    pub(super) fn idempotent_id(&self, account: &AccountId) -> Result<Option<KeyId>, ManageError> {
        let key = self.idempotency_key.as_ref();
        key.map(|key| generate::id_of(account, key)).transpose()
    }

    /// What a repeat is told: the same was wanted before, or something else. The name may have been
    /// changed since, and the expiry by a rotation, so they say nothing of what was wanted.
    pub(super) fn made_before(&self, earlier: Arc<KeyRecord>) -> ManageError {
        let end = self.expires_at.map(to_milliseconds);
        let is_same = self.environment == earlier.environment
            && self.scopes == earlier.scopes
            && self.sources == earlier.sources
            && (end == earlier.expires_at || earlier.replaced_by.is_some());
        if is_same { ManageError::AlreadyMade(earlier) } else { ManageError::Reused }
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

    /// What a rotation makes of an old key. A lifetime that would go on past the end of time ends with it, since
    /// nobody could rotate the key otherwise.
    pub(super) fn successor_of(old: &KeyRecord, now: SystemTime) -> Result<Self, ManageError> {
        let last = SystemTime::UNIX_EPOCH + LATEST - Duration::from_millis(1);
        let lifetime =
            old.expires_at.map(|end| end.duration_since(old.created_at).unwrap_or_default());
        Self {
            name: old.name.clone(),
            environment: old.environment.clone(),
            scopes: old.scopes.clone(),
            sources: old.sources.clone(),
            expires_at: lifetime
                .map(|lifetime| now.checked_add(lifetime).map_or(last, |end| end.min(last))),
            idempotency_key: None,
        }
        .settled(now)
    }
}

/// A time that can be stored and written: in whole milliseconds, from 1970 to the end of the year 9999.
pub(super) fn expiry(end: Option<SystemTime>) -> Result<SystemTime, ManageError> {
    end.filter(|end| (SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + LATEST).contains(end))
        .map(to_milliseconds)
        .ok_or(ManageError::InvalidExpiry)
}
