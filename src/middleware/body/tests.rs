use std::convert::Infallible;
use std::task::Waker;

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};

use super::*;

type Refused = ResponseBody<Full<Bytes>>;

/// All of a body that never waits.
fn frames<B>(body: B) -> Vec<Frame<Bytes>>
where
    B: Body<Data = Bytes, Error = Infallible>,
{
    let mut body = std::pin::pin!(body);
    let mut cx = Context::from_waker(Waker::noop());
    let mut frames = Vec::new();
    loop {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => frames.push(frame),
            Poll::Ready(None) => break,
            Poll::Pending => panic!("the body waits"),
        }
    }
    frames
}

fn data(frames: Vec<Frame<Bytes>>) -> Vec<Bytes> {
    let data = frames.into_iter().map(Frame::into_data);
    data.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_refusal_is_one_frame_of_known_length() {
    let body = Refused::refusal(Bytes::from_static(b"no"));
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(2));
    assert_eq!(data(frames(body)), ["no"]);
}

#[test]
fn a_refusal_of_nothing_has_no_frame() {
    let body = Refused::refusal(Bytes::new());
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(frames(body).is_empty());
}

#[test]
fn a_refusal_that_was_read_is_at_its_end() {
    let mut body = Refused::refusal(Bytes::from_static(b"no"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[test]
fn an_inner_body_goes_through_as_it_is() {
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let sent = trailers.clone();
    let inner = Full::new(Bytes::from_static(b"data"));
    let inner = inner.with_trailers(async move { Some(Ok(sent)) });
    let body = ResponseBody::inner(Box::pin(inner));
    assert!(!body.is_end_stream());
    let mut frames = frames(body);
    assert_eq!(frames.pop().unwrap().into_trailers().unwrap(), trailers);
    assert_eq!(data(frames), ["data"]);
}

#[test]
fn an_inner_body_speaks_for_its_own_length_and_end() {
    let body = ResponseBody::inner(Full::new(Bytes::from_static(b"data")));
    assert_eq!(body.size_hint().exact(), Some(4));
    assert!(!body.is_end_stream());
    let body = ResponseBody::inner(Full::new(Bytes::new()));
    assert!(body.is_end_stream());
}

#[test]
fn what_went_in_can_be_taken_out() {
    let inner = ResponseBody::inner("data").into_inner();
    assert_eq!(inner, Ok("data"));
    let refusal = ResponseBody::<()>::refusal(Bytes::from_static(b"no"));
    assert_eq!(refusal.into_inner(), Err(Bytes::from_static(b"no")));
    let nothing = ResponseBody::<()>::refusal(Bytes::new());
    assert_eq!(nothing.into_inner(), Err(Bytes::new()));
}
