//! The future of a call: admitted, refused, or waiting for the store first.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::ResponseBody;
use super::notice::Notice;
use super::response::Answers;
use super::service::Guard;
use crate::extract::TakenKey;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::verify::WaitingForStore;

pin_project! {
    /// The future of [`ApiKeyService`](super::ApiKeyService). The inner service's future is held
    /// in place, not boxed.
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        Waiting { waiting: Option<Box<Waiting<S, ReqBody>>> },
        Admitted { #[pin] future: S::Future, bearer: bool, notice: Notice },
        Refused { response: Option<Response<Bytes>> },
    }
}

/// What is needed once the store has answered.
pub(super) struct Waiting<S, ReqBody> {
    pub(super) lookup: WaitingForStore,
    pub(super) key: TakenKey,
    pub(super) ready: S,
    pub(super) request: Request<ReqBody>,
    pub(super) guard: Arc<Guard>,
    pub(super) untouched: Option<HeaderMap>,
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn admitted(future: S::Future, answers: &Answers, notice: Notice) -> Self {
        Self { state: State::admitted(future, answers, notice) }
    }

    pub(super) fn refused(response: Response<Bytes>) -> Self {
        Self { state: State::refused(response) }
    }

    pub(super) fn waiting(waiting: Waiting<S, ReqBody>) -> Self {
        Self { state: State::Waiting { waiting: Some(Box::new(waiting)) } }
    }
}

impl<S, ReqBody> State<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn admitted(future: S::Future, answers: &Answers, notice: Notice) -> Self {
        Self::Admitted { future, bearer: answers.bearer, notice }
    }

    fn refused(response: Response<Bytes>) -> Self {
        Self::Refused { response: Some(response) }
    }
}

impl<S, ReqBody> Waiting<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    /// Calls the inner service, which was ready all along, or refuses.
    fn proceed(self, verdict: Result<Identity, Rejection>) -> State<S, ReqBody> {
        let Self { key, mut ready, mut request, guard, untouched, .. } = self;
        match verdict.and_then(|identity| guard.admit(&mut request, key, identity)) {
            Ok(notice) => State::admitted(ready.call(request), &guard.answers, notice),
            Err(rejection) if let Some(headers) = untouched => {
                guard.let_pass(&mut request, headers, &rejection);
                State::admitted(ready.call(request), &guard.answers, Notice::default())
            }
            Err(rejection) => State::refused(guard.refuse(rejection, &request)),
        }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Output = Result<Response<ResponseBody<ResBody>>, S::Error>;

    /// # Panics
    ///
    /// When polled again after it was ready, and when the inner service does.
    #[allow(clippy::expect_used, reason = "the contract of Future: not polled after it was ready")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const AGAIN: &str = "ResponseFuture polled after completion";
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Admitted { future, bearer, notice } => {
                    let mut response = ready!(future.poll(cx))?;
                    Answers::keep_private(response.headers_mut(), *bearer);
                    notice.write(response.headers_mut());
                    return Poll::Ready(Ok(response.map(ResponseBody::inner)));
                }
                StateProjection::Refused { response } => {
                    let response = response.take().expect(AGAIN);
                    return Poll::Ready(Ok(response.map(ResponseBody::refusal)));
                }
                StateProjection::Waiting { waiting } => {
                    let Waiting { lookup, guard, request, .. } =
                        &mut **waiting.as_mut().expect(AGAIN);
                    let verdict =
                        ready!(lookup.poll(&guard.verifier, || guard.client(request), cx));
                    waiting.take().expect(AGAIN).proceed(verdict)
                }
            };
            state.set(next);
        }
    }
}

impl<S, ReqBody> std::fmt::Debug for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseFuture(…)")
    }
}
