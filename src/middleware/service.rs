//! The whole decision, and the service around it.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, Method, Request, Response, header};
use tower_service::Service;

use super::body::ResponseBody;
use super::future::{ResponseFuture, Waiting};
use super::response::Answers;
use super::watch::Watch;
use crate::extract::{Places, TakenKey};
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::transport::{Connection, Transport};
use crate::verify::{Verdict, Verifier};

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
    pub(crate) keep_key: bool,
}

impl Guard {
    /// The whole decision: the one key leaves the request; the connection must be HTTPS, which a
    /// client that got both wrong must hear first, lest it send its next key in the clear; there
    /// must be a key; and the key must be found, equal and allowed.
    fn decide<B>(&self, request: &mut Request<B>) -> Result<(TakenKey, Verdict), Rejection> {
        let key = self.places.take_key(request.headers_mut());
        let connection = (self.connection)(request.extensions());
        let is_https = self.transport.check(request.headers(), connection);
        is_https.inspect_err(|_| self.watch.in_the_clear(key.as_ref().ok(), &self.verifier))?;
        let key = key?;
        let verdict = self.verifier.verify(key.text()?, || self.client(request))?;
        Ok((key, verdict))
    }

    /// Makes an admitted request what the inner service gets.
    pub(super) fn admit<B>(&self, request: &mut Request<B>, key: TakenKey, identity: Identity) {
        self.watch.accepted(&identity, request.headers(), || self.client(request));
        if self.keep_key {
            key.put_back(request.headers_mut());
        }
        request.extensions_mut().insert(identity);
    }

    /// Answers a refused request.
    pub(super) fn refuse<B>(&self, rejection: Rejection, request: &Request<B>) -> Response<Bytes> {
        self.watch.refused(&rejection);
        let response = self.answers.refuse(rejection, request.headers());
        if request.method() == Method::HEAD { without_body(response) } else { response }
    }

    /// Where a request came from, as far as that is known for sure.
    pub(super) fn client<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        self.transport.client(request.headers(), (self.connection)(request.extensions()))
    }
}

/// An answer to `HEAD` says how long its body would be, and has none (RFC 9110 § 9.3.2). Nobody outside
/// of this service takes it away, and over HTTP/2 it would break the stream.
fn without_body(response: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(header::CONTENT_LENGTH, body.len().into());
    Response::from_parts(head, Bytes::new())
}

/// An inner service behind [`ApiKeyLayer`](super::ApiKeyLayer).
///
/// The inner service is called with verified requests only, each with its
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
        match self.guard.decide(&mut request) {
            Ok((key, Verdict::Valid(identity))) => {
                self.guard.admit(&mut request, key, identity);
                ResponseFuture::admitted(self.inner.call(request), &self.guard.answers)
            }
            Ok((key, Verdict::Waiting(lookup))) => {
                let guard = Arc::clone(&self.guard);
                ResponseFuture::waiting(Waiting::new(
                    lookup,
                    key,
                    self.take_ready(),
                    request,
                    guard,
                ))
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
