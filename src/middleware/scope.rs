//! A scope for a part of a service: a layer to put inside of [`ApiKeyLayer`](super::ApiKeyLayer).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::body::ResponseBody;
use super::log::log;
use super::response::{Answers, RenderRefusal};
use super::shadow::InShadow;
use crate::events::{KeyEvent, KeyEvents, Listeners};
use crate::identity::Identity;
use crate::record::Scope;
use crate::rejection::{Rejection, RejectionKind, Subject};

/// Lets callers through whose key has the very scope, and answers all others with 403.
///
/// A scope is one word: `bookings:read` is not part of `bookings` or `bookings:*`, and there are no
/// wildcards. A key without scopes has none. What a refused caller learns is about its own valid key only.
///
/// Inside of an [`ApiKeyLayer`](super::ApiKeyLayer), which finds out who calls; where none is, every call
/// is refused with 401, and an error event says why. In
/// [shadow mode](super::ApiKeyLayer::dangerously_in_shadow_mode) it refuses nothing either.
///
/// It knows nothing of that layer's renderer and listeners: **give it the same ones**, or a gRPC call gets
/// JSON here. The log has its refusals with method, path and key, but without the address, which only that
/// layer knows. For the whole of a service there is
/// [`ApiKeyLayer::with_required_scope`](super::ApiKeyLayer::with_required_scope), whose refusals are
/// [counted](crate::usage) as such: what is refused here, that layer had let in and counted as a use.
///
#[cfg_attr(feature = "axum", doc = "```")]
#[cfg_attr(not(feature = "axum"), doc = "```ignore")]
/// use axum::{Router, routing::get};
/// use tower_api_key::middleware::require_scope;
/// use tower_api_key::{ApiKeyLayer, MemoryStore, axum::protect};
///
/// let write = require_scope("bookings:write".parse()?);
/// let api = Router::new()
///     .route("/bookings", get(async || "all").post(async || "made").delete(async || "gone"))
///     .layer(require_scope("bookings:read".parse()?)) // for all of the routes above
///     .route("/webhooks", get(async || "all").layer(write)); // for one
/// let service = protect(api, ApiKeyLayer::new(MemoryStore::new()));
/// # let _ = service;
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct RequireScope {
    demand: Arc<Demand>,
}

/// What is wanted, and how it is refused.
#[derive(Clone)]
struct Demand {
    scope: Scope,
    answers: Answers,
    listeners: Listeners,
}

/// Lets callers through whose key has the scope.
pub fn require_scope(scope: Scope) -> RequireScope {
    let demand = Demand { scope, answers: Answers::default(), listeners: Listeners::default() };
    RequireScope { demand: Arc::new(demand) }
}

impl RequireScope {
    /// What refusals look like, as in [`ApiKeyLayer`](super::ApiKeyLayer::with_renderer).
    pub fn with_renderer(self, renderer: impl RenderRefusal) -> Self {
        self.with(|demand| demand.answers.renderer = Arc::new(renderer))
    }

    /// Tells `listener` of every refusal, beside those that were told to listen before.
    pub fn with_events(self, listener: impl KeyEvents) -> Self {
        self.with(|demand| demand.listeners = std::mem::take(&mut demand.listeners).and(listener))
    }

    fn with(mut self, change: impl FnOnce(&mut Demand)) -> Self {
        change(Arc::make_mut(&mut self.demand));
        self
    }
}

impl Demand {
    fn decide<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        if request.extensions().get::<InShadow>().is_some() {
            self.tell_in_shadow(request);
            return Ok(());
        }
        self.check(request)
    }

    /// Says what would be refused of a caller who is known; of others, the layer has said it.
    #[cold]
    fn tell_in_shadow<B>(&self, request: &Request<B>) {
        if request.extensions().get::<Identity>().is_some()
            && let Err(rejection) = self.check(request)
        {
            log(&rejection, request, || None, "request would be refused");
            self.listeners.tell(&KeyEvent::WouldRefuse { rejection: &rejection });
        }
    }

    fn check<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        let Some(caller) = request.extensions().get::<Identity>() else {
            tracing::error!(target: "tower_api_key", scope = self.scope.as_str(), "a scope is required where no ApiKeyLayer is in front: every call is refused");
            return Err(RejectionKind::MissingKey.into());
        };
        if caller.has_scope(&self.scope) {
            return Ok(());
        }
        Err(Rejection::from(RejectionKind::MissingScope)
            .with_fingerprint(caller.fingerprint())
            .with_subject(Subject::Record(Arc::clone(caller.record()))))
    }

    fn refuse<B>(&self, rejection: Rejection, request: &Request<B>) -> Response<Bytes> {
        // From where, the layer in front knows, and not this one.
        log(&rejection, request, || None, "request refused");
        self.listeners.tell(&KeyEvent::Refused { rejection: &rejection });
        self.answers.refuse_request(rejection, request)
    }
}

impl<S> Layer<S> for RequireScope {
    type Service = ScopeService<S>;

    fn layer(&self, inner: S) -> ScopeService<S> {
        ScopeService { inner, demand: Arc::clone(&self.demand) }
    }
}

/// An inner service behind [`RequireScope`].
#[derive(Clone)]
#[must_use]
pub struct ScopeService<S> {
    inner: S,
    demand: Arc<Demand>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ScopeService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ScopeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let state = match self.demand.decide(&request) {
            Ok(()) => State::Admitted { future: self.inner.call(request) },
            Err(rejection) => {
                // As in `ApiKeyService`: what was reserved to become ready is given back.
                let fresh = self.inner.clone();
                drop(std::mem::replace(&mut self.inner, fresh));
                State::Refused { response: Some(self.demand.refuse(rejection, &request)) }
            }
        };
        ScopeFuture { state }
    }
}

pin_project! {
    /// The future of [`ScopeService`].
    pub struct ScopeFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Admitted { #[pin] future: F },
        Refused { response: Option<Response<Bytes>> },
    }
}

impl<F, ResBody, E> Future for ScopeFuture<F>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, E>;

    /// # Panics
    ///
    /// When polled again after it was ready, and when the inner service does.
    #[allow(clippy::expect_used, reason = "the contract of Future: not polled after it was ready")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().state.project() {
            StateProjection::Admitted { future } => {
                ready!(future.poll(cx))?.map(ResponseBody::inner)
            }
            StateProjection::Refused { response } => response
                .take()
                .expect("ScopeFuture polled after completion")
                .map(ResponseBody::refusal),
        }))
    }
}

impl fmt::Debug for RequireScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireScope").field("scope", &self.demand.scope).finish_non_exhaustive()
    }
}

impl<S: fmt::Debug> fmt::Debug for ScopeService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeService")
            .field("scope", &self.demand.scope)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for ScopeFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeFuture(…)")
    }
}
