//! The whole decision, and the service around it.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response};
use tower_service::Service;

use super::body::ResponseBody;
use super::future::{ResponseFuture, Waiting};
use super::log::log;
use super::notice::{Notice, Notices};
use super::response::Answers;
use super::shadow::{InShadow, Shadow};
use super::watch::Watch;
use crate::events::Exposure;
use crate::extract::{Places, TakenKey};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::transport::{Connection, Transport};
use crate::verify::{Verdict, Verifier, WaitingForStore};

/// Where a request says which connection it came over. Extensions are this process's own: nothing in
/// them is the client's word.
pub(crate) type ConnectionSource = fn(&Extensions) -> Option<Connection>;

/// What the layer was told, shared by every clone of the service.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) places: Places,
    pub(crate) connection: ConnectionSource,
    pub(crate) transport: Transport,
    pub(crate) verifier: Verifier,
    pub(crate) answers: Answers,
    pub(crate) watch: Watch,
    pub(crate) limits: Limits,
    pub(crate) notices: Notices,
    pub(crate) shadow: Option<Arc<Shadow>>,
    pub(crate) keep_key: bool,
}

/// What is to be done with a request.
pub(super) enum Decision {
    /// It goes on, and the caller is told this.
    Admitted(Notice),
    /// It waits for the store, with its key beside it.
    Waiting(TakenKey, WaitingForStore),
}

impl Guard {
    /// The whole decision: the one key leaves the request; the connection must be HTTPS, which a
    /// client that got both wrong must hear first, lest it send its next key in the clear; there
    /// must be a key, from somebody who has not tried too many; and the key must be found, equal,
    /// allowed and within its limit.
    fn decide<B>(&self, request: &mut Request<B>) -> Result<Decision, Rejection> {
        let key = self.places.take_key(request.headers_mut());
        let connection = (self.connection)(request.extensions());
        let is_https = self.transport.check(request.headers(), connection);
        is_https.inspect_err(|_| self.exposed(request, key.as_ref().ok()))?;
        let key = key?;
        self.limits.may_try(|| self.client(request))?;
        let text = key.text().map_err(|_| self.verifier.malformed())?;
        match self.verifier.verify(text, || self.client(request))? {
            Verdict::Valid(identity) => self.admit(request, key, identity).map(Decision::Admitted),
            Verdict::Waiting(lookup) => Ok(Decision::Waiting(key, lookup)),
        }
    }

    /// Lets a verified caller in who is within its limit: the request becomes what the inner service
    /// gets.
    #[inline]
    pub(super) fn admit<B>(
        &self,
        request: &mut Request<B>,
        key: TakenKey,
        identity: Identity,
    ) -> Result<Notice, Rejection> {
        let standing = self.limits.take(&identity)?;
        let notice = self.notices.of(&identity, standing, || self.verifier.clock.now());
        self.watch.accepted(&identity, request.headers(), || self.client(request));
        if self.keep_key {
            key.put_back(request.headers_mut());
        }
        if self.shadow.is_none() {
            // A layer around this one may refuse nothing; this one has decided.
            request.extensions_mut().remove::<InShadow>();
        }
        request.extensions_mut().insert(identity);
        Ok(notice)
    }

    /// A key came, and nothing says that it came over HTTPS.
    #[cold]
    fn exposed<B>(&self, request: &Request<B>, key: Option<&TakenKey>) {
        let connection = (self.connection)(request.extensions());
        let is_plain = self.transport.is_plain(request.headers(), connection);
        // In shadow it is being found out whether the service is set up rightly.
        let is_known = is_plain && self.shadow.is_none();
        let exposure = if is_known { Exposure::InTheClear } else { Exposure::Unproven };
        self.watch.exposed(key, || self.client(request), exposure, &self.verifier);
    }

    /// Answers a refused request.
    pub(super) fn refuse<B>(&self, rejection: Rejection, request: &Request<B>) -> Response<Bytes> {
        self.limits.refused(rejection.kind(), || self.client(request));
        log(&rejection, request, || self.client(request), "request refused");
        self.watch.refused(&rejection);
        let notice = self.notices.of_refused(&rejection);
        let mut response = self.answers.refuse_request(rejection, request);
        notice.write(response.headers_mut());
        response
    }

    /// The headers as they came, where nothing is refused.
    fn untouched<B>(&self, request: &mut Request<B>) -> Option<HeaderMap> {
        let shadow = self.shadow.as_ref()?;
        request.extensions_mut().insert(InShadow);
        Some(shadow.keep(request.headers(), self.verifier.clock.now()))
    }

    /// Gives a request that would have been refused back what it came with.
    #[cold]
    pub(super) fn let_pass<B>(
        &self,
        request: &mut Request<B>,
        headers: HeaderMap,
        rejection: &Rejection,
    ) {
        self.limits.refused(rejection.kind(), || self.client(request));
        log(rejection, request, || self.client(request), "request would be refused");
        self.watch.passed(rejection);
        if let Some(shadow) = &self.shadow {
            shadow.passed();
        }
        *request.headers_mut() = headers;
    }

    /// Where a request came from, as far as that is known for sure.
    pub(super) fn client<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        self.transport.client(request.headers(), (self.connection)(request.extensions()))
    }
}

/// An inner service behind [`ApiKeyLayer`](super::ApiKeyLayer).
///
/// The inner service is called with verified requests only (but in
/// [shadow mode](super::ApiKeyLayer::dangerously_in_shadow_mode)), each with its
/// [`Identity`](crate::Identity) in the extensions and without the key. Dropping the future of a
/// call at any point is safe: a lookup under way is given up and the inner service is not called.
#[derive(Clone)]
#[must_use]
pub struct ApiKeyService<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S> ApiKeyService<S> {
    pub(crate) fn new(inner: S, guard: Arc<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl<S: Clone> ApiKeyService<S> {
    /// Takes the inner service that `poll_ready` made ready, and leaves a fresh one behind.
    fn take_ready(&mut self) -> S {
        let fresh = self.inner.clone();
        mem::replace(&mut self.inner, fresh)
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ApiKeyService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let untouched = self.guard.untouched(&mut request);
        match self.guard.decide(&mut request) {
            Ok(Decision::Admitted(notice)) => {
                ResponseFuture::admitted(self.inner.call(request), &self.guard.answers, notice)
            }
            Ok(Decision::Waiting(key, lookup)) => {
                let (ready, guard) = (self.take_ready(), Arc::clone(&self.guard));
                ResponseFuture::waiting(Waiting { lookup, key, ready, request, guard, untouched })
            }
            Err(rejection) if let Some(headers) = untouched => {
                self.guard.let_pass(&mut request, headers, &rejection);
                let notice = Notice::default();
                ResponseFuture::admitted(self.inner.call(request), &self.guard.answers, notice)
            }
            Err(rejection) => {
                // What the inner service reserved to become ready (a permit, a slot in a buffer) is
                // given back: a refused caller must not hold it until the next request.
                drop(self.take_ready());
                ResponseFuture::refused(self.guard.refuse(rejection, &request))
            }
        }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for ApiKeyService<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
