//! A stream or a body that ends with its key.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Ended;

pin_project! {
    /// Made by [`KeyEnds::guard`](super::KeyEnds::guard): gives what the inner [`Stream`] or [`Body`] gives,
    /// until the key ends. Then it is over, and the inner one is dropped, without a word: to the client it
    /// looks finished, so what must be whole should say by itself where it ends.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Guarded<S> {
        #[pin]
        inner: Option<S>,
        ended: Ended,
    }
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, ended: Ended) -> Self {
        Self { inner: Some(inner), ended }
    }

    /// The inner one, unless the key has ended.
    fn live(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Pin<&mut S>> {
        let mut this = self.project();
        // Once it has ended, the future is not asked again.
        if this.inner.is_some() && Pin::new(this.ended).poll(cx).is_ready() {
            this.inner.set(None);
        }
        this.inner.as_pin_mut()
    }
}

impl<S: Stream> Stream for Guarded<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.live(cx).map_or(Poll::Ready(None), |inner| inner.poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let most = self.inner.as_ref().map_or(Some(0), |inner| inner.size_hint().1);
        (0, most)
    }
}

impl<B: Body> Body for Guarded<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.live(cx).map_or(Poll::Ready(None), |inner| inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Of no use for a length: it may end before.
    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}
