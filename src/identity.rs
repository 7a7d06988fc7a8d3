//! Who calls: what a handler gets of a verified key. Only verification can make one.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::Fingerprint;
use crate::record::{AccountId, Environment, KeyId, KeyName, KeyRecord, Scope, Scopes};

/// The verified caller, in the request's extensions. One pointer wide; a clone is cheap.
///
/// It can only come from a key that was verified:
///
/// ```compile_fail
/// # fn forge(record: std::sync::Arc<tower_api_key::KeyRecord>) {
/// let forged = tower_api_key::Identity(record);
/// # }
/// ```
#[derive(Clone)]
pub struct Identity(Arc<KeyRecord>);

impl Identity {
    /// For `verify.rs` alone; a test holds that.
    pub(crate) fn verified(record: Arc<KeyRecord>) -> Self {
        Self(record)
    }

    /// For counting.
    pub(crate) fn record(&self) -> &Arc<KeyRecord> {
        &self.0
    }

    /// Whose key it is.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.0.account
    }

    /// The key's stable id.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.0.id
    }

    /// What its owner calls the key.
    #[must_use]
    pub fn key_name(&self) -> &KeyName {
        &self.0.name
    }

    /// The key's public name in logs.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint()
    }

    /// The environment that the key is bound to, if any.
    #[must_use]
    pub fn environment(&self) -> Option<&Environment> {
        self.0.environment.as_ref()
    }

    /// What the key may be used for.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Whether the key has the very scope.
    #[must_use]
    pub fn has_scope(&self, scope: &Scope) -> bool {
        self.0.scopes.contains(scope)
    }

    /// The first instant at which the key no longer works.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("account", self.account())
            .field("key_id", self.key_id())
            .field("key_name", self.key_name())
            .finish_non_exhaustive()
    }
}
