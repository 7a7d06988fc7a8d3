//! The layer: what a service says about its keys.

use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::notice::Notices;
use super::response::{Answers, RenderRefusal};
use super::service::{ApiKeyService, Guard};
use super::watch::Watch;
use crate::clock::Clock;
use crate::digest::Hashing;
use crate::events::KeyEvents;
use crate::extract::Places;
use crate::key::KeyFormat;
use crate::limits::{AttemptLimit, KeyLimit, Limits};
use crate::policy::Here;
use crate::record::{Environment, InvalidText, Scope};
use crate::store::KeyStore;
use crate::transport::Transport;
use crate::upgrades::Upgrades;
use crate::usage::Usage;
use crate::verify::{KeyVerifier, Verifier};

/// Lets requests through that came over HTTPS with a valid `API-Key`, and refuses all others.
///
/// As it is made it takes the key from the `API-Key` header only, wants TLS ended in this process
/// ([`Transport::tls`]), refuses a mistyped key without a lookup ([`KeyFormat::Checked`]), removes
/// the key from the request and answers refusals in JSON.
///
/// See the [module](super) for an example, and [`axum::protect`](crate::axum::protect) for axum,
/// where `.layer()` in the wrong place leaves routes open.
///
/// # Runtime
///
/// A store that answers from memory needs no runtime. While a store is waited for, the time limit
/// ([`with_store_timeout`](Self::with_store_timeout)) needs a Tokio runtime with its timer; without
/// one, such requests are answered 503.
#[derive(Clone)]
#[must_use]
pub struct ApiKeyLayer {
    guard: Arc<Guard>,
}

impl ApiKeyLayer {
    /// A layer over the keys of `store`.
    pub fn new(store: impl KeyStore) -> Self {
        Self {
            guard: Arc::new(Guard {
                places: Places::default(),
                connection: |extensions| extensions.get().copied(),
                transport: Transport::default(),
                verifier: Verifier::new(Arc::new(store)),
                answers: Answers::default(),
                watch: Watch::default(),
                limits: Limits::default(),
                notices: Notices::default(),
                shadow: None,
                keep_key: false,
            }),
        }
    }

    /// How requests prove that they came over HTTPS. A rule that lets keys travel in the clear is
    /// logged as a warning here.
    pub fn with_transport(self, transport: Transport) -> Self {
        if transport.is_insecure() {
            tracing::warn!(target: "tower_api_key", rule = transport.name(), "API keys may travel in the clear");
        }
        self.with(|guard| guard.transport = transport)
    }

    /// Takes a key from `Authorization: Bearer …` too (MCP clients send it there). A request with
    /// both is refused.
    pub fn with_bearer(self) -> Self {
        self.with(|guard| {
            guard.places.bearer = true;
            guard.answers.bearer = true;
        })
    }

    /// Leaves the key in the request, marked as sensitive, for an inner service that must pass it
    /// on. What the inner service logs or forwards is then its own care.
    pub fn with_key_kept(self) -> Self {
        self.with(|guard| guard.keep_key = true)
    }

    /// Which key texts are looked up at all.
    pub fn with_key_format(self, format: KeyFormat) -> Self {
        self.with(|guard| guard.verifier.format = format)
    }

    /// How digests of keys are made, and which others still count; SHA-256, and none, unless set. **The
    /// manager must be told the same**, in every process: [`digest::hashing`](crate::digest::hashing) says
    /// more.
    pub fn with_hashing(self, hashing: Hashing) -> Self {
        self.with(|guard| guard.verifier.hashing = hashing)
    }

    /// Gives keys that are found under an older digest one of today, after they were accepted.
    pub fn with_upgrades(self, upgrades: &Upgrades) -> Self {
        self.with(|guard| guard.verifier.outdated = Some(upgrades.listener()))
    }

    /// The environment of this service: keys that are bound to another are refused like unknown ones.
    /// Unless it is said, so are all that are bound to any. A key that is bound to none works everywhere.
    pub fn with_environment(self, environment: Environment) -> Self {
        self.with(|guard| guard.verifier.policy.environment = Here::In(environment))
    }

    /// Takes the keys of every environment, for a service that looks at
    /// [`Identity::environment`](crate::Identity::environment) itself: one that has test data beside the
    /// real, or a gateway.
    pub fn with_any_environment(self) -> Self {
        self.with(|guard| guard.verifier.policy.environment = Here::Anywhere)
    }

    /// A scope that a key needs for the whole of this service; a valid key without it gets 403. Said
    /// twice, it needs both. For a part of the service, put [`require_scope`](super::require_scope)
    /// around that part.
    pub fn with_required_scope(self, scope: Scope) -> Self {
        self.with(|guard| guard.verifier.policy.scopes.push(scope))
    }

    /// What refusals look like: [`Json`](super::Json), [`ProblemDetails`](super::ProblemDetails) or
    /// a closure, whose arguments need their types written, as in the example of
    /// [`response`](super::response).
    pub fn with_renderer(self, renderer: impl RenderRefusal) -> Self {
        self.with(|guard| guard.answers.renderer = Arc::new(renderer))
    }

    /// The realm in `WWW-Authenticate`; `api` unless set.
    ///
    /// # Errors
    ///
    /// When it is empty, longer than 128 characters, or has other than visible ASCII and spaces, or
    /// has quotes or backslashes.
    pub fn with_realm(mut self, realm: &str) -> Result<Self, InvalidText> {
        Arc::make_mut(&mut self.guard).answers.set_realm(realm)?;
        Ok(self)
    }

    /// How long a store may take before the request is answered 503; 750 ms unless set.
    pub fn with_store_timeout(self, limit: Duration) -> Self {
        self.with(|guard| guard.verifier.store_timeout = limit)
    }

    /// Counts the use of keys. One [`Usage`] for all layers over a store.
    pub fn with_usage(self, usage: &Usage) -> Self {
        self.with(|guard| guard.watch.usage = Some(usage.clone()))
    }

    /// Tells `listener` of every refusal, or of what would be one in shadow mode, and of valid keys that came
    /// in the clear, beside those that were told to listen before.
    pub fn with_events(self, listener: impl KeyEvents) -> Self {
        self.with(|guard| {
            guard.watch.listeners = std::mem::take(&mut guard.watch.listeners).and(listener);
        })
    }

    /// Limits how often each key is used; what is over the limit gets 429. Nothing is limited unless this is
    /// called. See [`limits`](crate::limits).
    pub fn with_rate_limit(self, limit: impl KeyLimit) -> Self {
        self.with(|guard| guard.limits.keys = Some(Arc::new(limit)))
    }

    /// Tells callers how much of their quota is left, and those who are refused for it: `RateLimit` and
    /// `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10.
    pub fn with_rate_limit_headers(self) -> Self {
        self.with(|guard| guard.notices.rate_limit = true)
    }

    /// Limits how many invalid keys an address may send; then its requests get 429 for a while, and no key
    /// of them is looked up. Nothing is limited unless this is called. See [`limits`](crate::limits).
    pub fn with_failure_budget(self, limit: impl AttemptLimit) -> Self {
        self.with(|guard| guard.limits.attempts = Some(Arc::new(limit)))
    }

    /// Tells a caller when its key expires, in the header `API-Key-Expires` (an HTTP date), from this time
    /// before its end on.
    ///
    /// A key that was [rotated](crate::KeyManager::rotate) is told of without this, for as long as it still
    /// works: `Deprecation` (RFC 9745) says since when it has a successor, `Sunset` (RFC 8594) when it ends.
    /// Both headers are about resources in their RFCs; here they are about the credential. Where the service
    /// says one of them itself, neither is added.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_api_key::{ApiKeyLayer, MemoryStore};
    ///
    /// let two_weeks = Duration::from_secs(14 * 86_400);
    /// let layer = ApiKeyLayer::new(MemoryStore::new()).with_expiry_header(two_weeks);
    /// # let _ = layer;
    /// ```
    pub fn with_expiry_header(self, within: Duration) -> Self {
        self.with(|guard| guard.notices.expiry_within = Some(within))
    }

    /// **Refuses nothing**, for putting keys in front of an API that has callers already: each request is
    /// decided about as it would be, and what would be refused is logged, [counted](crate::KeyEvent::WouldRefuse)
    /// and then goes on as it came, with its headers and without an [`Identity`](crate::Identity). Handlers
    /// must do with `Option<Identity>` meanwhile. One that takes an
    /// `Identity` answers 500, and so does `axum::self_revoke`. [`require_scope`](super::require_scope) refuses
    /// nothing either, and no key is told of as [in the clear](crate::Exposure::InTheClear).
    ///
    /// Says so in an error event when it is called, and once a minute while requests come.
    ///
    /// ```
    /// use tower_api_key::{ApiKeyLayer, KeyEvent, MemoryStore};
    ///
    /// let layer = ApiKeyLayer::new(MemoryStore::new())
    ///     .dangerously_in_shadow_mode()
    ///     .with_events(|event: &KeyEvent<'_>| {
    ///         if let KeyEvent::WouldRefuse { rejection } = event {
    ///             println!("would be refused: {rejection}");
    ///         }
    ///     });
    /// # let _ = layer;
    /// ```
    pub fn dangerously_in_shadow_mode(self) -> Self {
        tracing::error!(target: "tower_api_key", "SHADOW MODE: no request is refused");
        self.with(|guard| guard.shadow = Some(Arc::default()))
    }

    /// The clock by which keys expire; the system's unless set.
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.with(|guard| guard.verifier.clock = Arc::new(clock))
    }

    /// Verifies keys that came from elsewhere than a request's headers, as this layer is set by now.
    pub fn verifier(&self) -> KeyVerifier {
        KeyVerifier::of(self.guard.verifier.clone())
    }

    fn with(mut self, change: impl FnOnce(&mut Guard)) -> Self {
        change(Arc::make_mut(&mut self.guard));
        self
    }

    /// Looks for the connection elsewhere.
    #[cfg(feature = "axum")]
    pub(crate) fn with_connection_source(self, source: super::service::ConnectionSource) -> Self {
        self.with(|guard| guard.connection = source)
    }
}

impl<S> Layer<S> for ApiKeyLayer {
    type Service = ApiKeyService<S>;

    fn layer(&self, inner: S) -> ApiKeyService<S> {
        ApiKeyService::new(inner, Arc::clone(&self.guard))
    }
}

impl std::fmt::Debug for ApiKeyLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyLayer")
            .field("transport", &self.guard.transport.name())
            .finish_non_exhaustive()
    }
}
