//! What happens to keys, told to whoever wants to know. Knows no HTTP and no store.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::record::{AccountId, Actor, KeyId, KeyName, KeyRecord};
use crate::rejection::Rejection;
use crate::store::Use;

/// Something that happened to a key, which is told of as it is afterwards, unless its event says otherwise.
/// `by` is who did it, where the manager [was told](crate::KeyManager::acting_for).
///
/// What a manager has done may get more fields: match it with `..`. The others have but what they are about, of
/// types that can say more themselves; a service can make them, to tell a listener what it has found out.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "what `key` and `by` are is said above")]
pub enum KeyEvent<'a> {
    /// A key was made.
    #[non_exhaustive]
    Created { key: &'a KeyRecord, by: Option<&'a Actor> },
    /// A key of another system was [filed](crate::KeyManager::import).
    #[non_exhaustive]
    Imported { key: &'a KeyRecord, by: Option<&'a Actor> },
    /// A key was given another name.
    #[non_exhaustive]
    Renamed { key: &'a KeyRecord, by: Option<&'a Actor> },
    /// A key was given a new secret, and the old one is dead.
    #[non_exhaustive]
    Regenerated { key: &'a KeyRecord, by: Option<&'a Actor> },
    /// A key, as it was, has a successor; that one is not told of as created.
    #[non_exhaustive]
    Rotated { key: &'a KeyRecord, successor: &'a KeyRecord, by: Option<&'a Actor> },
    /// A key was deleted. It had this name, if that could be had in time.
    #[non_exhaustive]
    Deleted {
        account: &'a AccountId,
        key: &'a KeyId,
        name: Option<&'a KeyName>,
        by: Option<&'a Actor>,
    },
    /// All keys of an account were deleted, this many.
    #[non_exhaustive]
    DeletedAll { account: &'a AccountId, count: usize, by: Option<&'a Actor> },
    /// A request was refused.
    Refused { rejection: &'a Rejection },
    /// A request went on that would have been refused, but for the
    /// [shadow mode](crate::ApiKeyLayer::dangerously_in_shadow_mode).
    WouldRefuse { rejection: &'a Rejection },
    /// Others may have seen a valid key: replace it, or let [`RevokeExposed`](crate::leaks::RevokeExposed) delete it.
    /// Of a key that came in the clear this is told where Tokio has timers.
    Exposed { key: &'a KeyRecord, exposure: Exposure<'a> },
    /// A key that is in use is about to expire. Told once a day by each process.
    Expiring { key: &'a KeyRecord },
    /// How often a secret was used since the last time this was told of it, when it has been
    /// [written](crate::Usage). It names the secret by its fingerprint, as the log does.
    Used { of: &'a Use },
}

/// How a key was exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure<'a> {
    /// It came over a connection that was not HTTPS: to this process, which ends TLS and has done so since it
    /// was started, or to a trusted proxy, which says so. The call was refused.
    InTheClear,
    /// Nothing proves that it came over HTTPS, and nothing that it did not: a proxy is not trusted or says
    /// nothing, or the peer is not known. Maybe the service is not set up as it should be. The call was
    /// refused, but in [shadow mode](crate::ApiKeyLayer::dangerously_in_shadow_mode).
    Unproven,
    /// A secret scanner found it. Both texts are the scanner's, as far as it says, and hold no key.
    #[non_exhaustive]
    Found {
        /// Where.
        url: Option<&'a str>,
        /// In what, such as `commit` or `issue_title`.
        source: Option<&'a str>,
    },
}

impl<'a> Exposure<'a> {
    /// [`Found`](Self::Found), by a scanner of the service's own: where, and in what. Neither may hold a key.
    #[must_use]
    pub fn found(url: Option<&'a str>, source: Option<&'a str>) -> Self {
        Self::Found { url, source }
    }
}

impl KeyEvent<'_> {
    /// A stable word for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created { .. } => "created",
            Self::Imported { .. } => "imported",
            Self::Renamed { .. } => "renamed",
            Self::Regenerated { .. } => "regenerated",
            Self::Rotated { .. } => "rotated",
            Self::Deleted { .. } => "deleted",
            Self::DeletedAll { .. } => "deleted_all",
            Self::Refused { .. } => "refused",
            Self::WouldRefuse { .. } => "would_refuse",
            Self::Exposed { .. } => "exposed",
            Self::Expiring { .. } => "expiring",
            Self::Used { .. } => "used",
        }
    }
}

/// Hears of what happens to keys. Every function or closure of `Fn(&KeyEvent)` is one.
///
/// The log (target `tower_api_key`) has it without this, but for what was used, which is in the store. A
/// hook is for what a log is not for: counting, mailing an owner, feeding an audit trail. A listener hears
/// what it was told to listen to: the manager tells of what was done to keys, the layer of refusals and of
/// keys that came in the clear, [`UsageSettings`](crate::UsageSettings) of uses and of keys that are about
/// to expire.
///
/// ```
/// use tower_api_key::{ApiKeyLayer, KeyEvent, KeyManager, MemoryStore, UsageSettings};
///
/// let audit = |event: &KeyEvent<'_>| match event {
///     KeyEvent::Deleted { key, name, by, .. } => println!("{key}, {name:?}, was deleted by {by:?}"),
///     KeyEvent::Exposed { key, .. } => println!("mail {}: replace {}", key.account, key.name),
///     _ => {}
/// };
///
/// let store = MemoryStore::new();
/// let manager = KeyManager::new(store.clone(), "acme".parse()?).with_events(audit);
/// let layer = ApiKeyLayer::new(store).with_events(audit);
/// let counting = UsageSettings::default().with_events(audit);
/// # let _ = (manager, layer, counting);
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
pub trait KeyEvents: Send + Sync + 'static {
    /// Hears of one thing, after it happened and before the call that did it returns. Must not block:
    /// hand on what takes time. A panic in here is logged and stops nothing.
    fn hear(&self, event: &KeyEvent<'_>);
}

impl<F: Fn(&KeyEvent<'_>) + Send + Sync + 'static> KeyEvents for F {
    fn hear(&self, event: &KeyEvent<'_>) {
        self(event);
    }
}

#[derive(Clone, Default)]
pub(crate) struct Listeners(Option<Arc<dyn KeyEvents>>);

impl Listeners {
    pub(crate) fn and(self, listener: impl KeyEvents) -> Self {
        Self(Some(match self.0 {
            None => Arc::new(listener),
            Some(others) => Arc::new(move |event: &KeyEvent<'_>| {
                tell(&*others, event);
                listener.hear(event);
            }),
        }))
    }

    pub(crate) fn tell(&self, event: &KeyEvent<'_>) {
        if let Some(listener) = &self.0 {
            tell(&**listener, event);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

fn tell(listener: &dyn KeyEvents, event: &KeyEvent<'_>) {
    if catch_unwind(AssertUnwindSafe(|| listener.hear(event))).is_err() {
        tracing::error!(target: "tower_api_key", event = event.name(), "a listener to key events panicked");
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Listeners(none)" } else { "Listeners(…)" })
    }
}
