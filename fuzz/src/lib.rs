//! What the targets share: a service behind the layer, and what must hold of every answer.

use std::convert::Infallible;
use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::{ApiKeyLayer, Identity, Rejection, RejectionKind};

/// What a future says in the end, with what it spawns. All that is asked here is in memory.
pub fn now<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_current_thread().enable_time().build().expect("a clock for time limits")
    });
    RUNTIME.block_on(future)
}

/// What became of a request.
pub enum Outcome {
    /// It reached the service, as this.
    Admitted(Box<Identity>, HeaderMap),
    /// It was refused.
    Refused(RejectionKind),
}

/// What the inner service saw, for the test.
#[derive(Clone)]
struct Seen(HeaderMap, Identity);

/// Sends a request through a layer, and looks at what must hold of every answer: who is let in has
/// no key left in its headers, and a refusal is one of the static ones.
pub fn call(layer: &ApiKeyLayer, request: Request<()>) -> Outcome {
    let inner = service_fn(async |request: Request<()>| {
        let (parts, ()) = request.into_parts();
        let identity = parts.extensions.get::<Identity>().expect("who calls").clone();
        let mut response = Response::new(Full::<Bytes>::default());
        response.extensions_mut().insert(Seen(parts.headers, identity));
        Ok::<_, Infallible>(response)
    });
    // Not in a runtime, where tasks would look for whoever sent a key in the clear, and nobody runs them.
    let answer = layer.layer(inner).oneshot(request).now_or_never();
    let mut response = match answer.expect("nothing here waits") {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let seen = response.extensions_mut().remove::<Seen>();
    let rejection = response.extensions_mut().remove::<Rejection>();
    match (seen, rejection) {
        (Some(Seen(headers, identity)), None) => {
            assert!(!headers.contains_key("api-key"), "the service never sees the key");
            Outcome::Admitted(Box::new(identity), headers)
        }
        (None, Some(rejection)) => {
            let kind = rejection.kind();
            looks_as_it_must(kind, response);
            Outcome::Refused(kind)
        }
        (seen, _) => panic!("both or neither: the service was called: {}", seen.is_some()),
    }
}

fn looks_as_it_must<B: BodyExt>(kind: RejectionKind, response: Response<B>)
where
    B::Error: std::fmt::Debug,
{
    let status = match kind {
        RejectionKind::MissingScope => StatusCode::FORBIDDEN,
        _ => StatusCode::UNAUTHORIZED,
    };
    assert_eq!(response.status(), status, "{kind}");
    let headers = response.headers();
    assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{kind}");
    assert_eq!(headers.contains_key(header::WWW_AUTHENTICATE), status == StatusCode::UNAUTHORIZED);
    assert!(!headers.contains_key(header::LOCATION), "never a redirect");
    let body = now(response.into_body().collect()).expect("a body").to_bytes();
    let body = std::str::from_utf8(&body).expect("JSON");
    let expected = match kind {
        RejectionKind::NotHttps => "HTTPS",
        RejectionKind::MissingKey => "API-Key",
        RejectionKind::MissingScope => r#""authentication_error""#,
        _ => {
            assert_eq!(body, r#"{"type":"authentication_error","message":"Invalid API key."}"#);
            return;
        }
    };
    assert!(body.contains(expected), "{kind}: {body}");
}

/// CRC-32 (ISO-HDLC), bit by bit, in six base62 digits: what a key must end in.
#[must_use]
pub fn checksum(body: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut sum = !0_u32;
    for byte in body {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 };
        }
    }
    let mut sum = !sum;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    digits
}

/// Whether a text can be a key at all.
#[must_use]
pub fn is_visible(text: &[u8]) -> bool {
    (1..=256).contains(&text.len()) && text.iter().all(|byte| (0x21..=0x7e).contains(byte))
}

/// Whether a text ends in its checksum.
#[must_use]
pub fn is_checked(text: &[u8]) -> bool {
    text.len() >= 6 && {
        let (body, end) = text.split_at(text.len() - 6);
        checksum(body) == end
    }
}
