//! Who manages keys, as the service has authenticated them. Knows no HTTP.

#[cfg(feature = "manage-api")]
use super::KeyManager;
use crate::record::{AccountId, Actor, Scope, Scopes};

/// An authenticated person or program, and the account whose keys it may manage.
///
/// A service makes one of its own session or token, and of nothing that the client wrote. Never make
/// one of an [`Identity`](crate::Identity): an API key must not make other API keys, or whoever found
/// one could not be locked out by deleting it.
///
/// ```
/// use tower_api_key::manage::Principal;
///
/// // The account has booked the read interface, and no gold tier.
/// let signed_in = Principal::new("admin@example.com".parse()?)
///     .with_actor("jane@example.com".parse()?)
///     .with_grantable_scopes("bookings:read webhooks:read".parse()?);
/// assert!(signed_in.may_grant(&"bookings:read".parse()?) && !signed_in.may_grant(&"tier:gold".parse()?));
/// assert!(!Principal::new("admin@example.com".parse()?).may_grant(&"bookings:read".parse()?));
/// assert!(signed_in.may_renew(&"webhooks:read".parse()?) && !signed_in.may_renew(&"tier:gold".parse()?));
/// assert!(signed_in.clone().with_any_key_renewed().may_renew(&"tier:gold".parse()?));
/// assert!(signed_in.with_any_scope().may_grant(&"tier:gold".parse()?));
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    account: AccountId,
    actor: Option<Actor>,
    grantable: Grantable,
    renews_any: bool,
}

/// Which scopes somebody may give the keys of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Grantable {
    These(Scopes),
    Any,
}

impl Principal {
    /// Somebody who may manage the keys of `account`, and give them no scopes.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        let grantable = Grantable::These(Scopes::default());
        Self { account, actor: None, grantable, renews_any: false }
    }

    /// Says who it is, for the log and the [`KeyEvents`](crate::KeyEvents).
    #[must_use]
    pub fn with_actor(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Which scopes the keys may have that are made for it, or given a new secret; none unless set. A scope
    /// is a right, or a tier: name those that this account has, and this person may hand on.
    ///
    /// Keys that are there keep theirs: where an account loses a right, delete the keys that have it. Whoever
    /// may not give one of them may not [rotate or regenerate](Self::with_any_key_renewed) the key either, and
    /// may rename and delete it.
    #[must_use]
    pub fn with_grantable_scopes(mut self, scopes: Scopes) -> Self {
        self.grantable = Grantable::These(scopes);
        self
    }

    /// Keys that are made for it, or given a new secret, may have any scope: where these are the customers' own words, and no layer
    /// and no limit of the service means anything by one.
    #[must_use]
    pub fn with_any_scope(mut self) -> Self {
        self.grantable = Grantable::Any;
        self
    }

    /// They may rotate and regenerate every key of the account, also one that has scopes which they may not
    /// give. Whoever does this is shown its new secret: say so only where everybody who manages an account's
    /// keys may do what its keys may.
    #[must_use]
    pub fn with_any_key_renewed(mut self) -> Self {
        self.renews_any = true;
        self
    }

    /// Whose keys.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Who it is.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// Which scopes the keys that are made for it may have; `None`: any.
    #[must_use]
    pub fn grantable_scopes(&self) -> Option<&Scopes> {
        match &self.grantable {
            Grantable::These(scopes) => Some(scopes),
            Grantable::Any => None,
        }
    }

    /// Whether the keys that are made for it may have a scope.
    #[must_use]
    pub fn may_grant(&self, scope: &Scope) -> bool {
        self.grantable_scopes().is_none_or(|scopes| scopes.contains(scope))
    }

    /// Whether a key with these scopes may be rotated or regenerated for it.
    #[must_use]
    pub fn may_renew(&self, scopes: &Scopes) -> bool {
        self.renews_any || scopes.iter().all(|scope| self.may_grant(scope))
    }

    /// The manager, noting who acts.
    #[cfg(feature = "manage-api")]
    pub(super) fn acting(&self, manager: &KeyManager) -> KeyManager {
        match &self.actor {
            Some(actor) => manager.clone().acting_for(actor.clone()),
            None => manager.clone(),
        }
    }
}
