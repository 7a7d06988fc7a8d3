//! The layer: what a service says about its keys.

use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::response::{Answers, RenderRefusal};
use super::service::{ApiKeyService, Guard};
use super::watch::Watch;
use crate::clock::Clock;
use crate::events::KeyEvents;
use crate::extract::Places;
use crate::key::KeyFormat;
use crate::record::{Environment, InvalidText, Scope};
use crate::store::KeyStore;
use crate::transport::Transport;
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

    /// The environment of this service: keys that are bound to another are refused like unknown ones.
    pub fn with_environment(self, environment: Environment) -> Self {
        self.with(|guard| guard.verifier.policy.environment = Some(environment))
    }

    /// The scope that a key needs for the whole of this service; a valid key without it gets 403. For
    /// a part of it, ask [`Identity::has_scope`](crate::Identity::has_scope) there: a second layer
    /// inside of this one would find no key in the request.
    pub fn with_required_scope(self, scope: Scope) -> Self {
        self.with(|guard| guard.verifier.policy.scope = Some(scope))
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

    /// Tells `listener` of every refusal and of valid keys that came in the clear, beside those that
    /// were told to listen before.
    pub fn with_events(self, listener: impl KeyEvents) -> Self {
        self.with(|guard| {
            guard.watch.listeners = std::mem::take(&mut guard.watch.listeners).and(listener);
        })
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
