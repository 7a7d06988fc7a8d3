use http::StatusCode;
use proptest::prelude::*;

use super::*;

const ALL: [Refusal; 6] = [
    Refusal::NotHttps,
    Refusal::MissingKey,
    Refusal::InvalidKey,
    Refusal::MissingScope,
    Refusal::TooManyRequests,
    Refusal::Unavailable,
];

fn call(content_type: &str) -> HeaderMap {
    let value = HeaderValue::from_bytes(content_type.as_bytes()).unwrap();
    HeaderMap::from_iter([(header::CONTENT_TYPE, value)])
}

#[test]
fn a_call_of_grpc_is_answered_in_headers_alone() {
    for refusal in ALL {
        let response = Grpc::new().render(refusal, &call("application/grpc"));
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.body().is_empty());
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], code(refusal));
        assert_eq!(response.headers()["grpc-message"], refusal.message());
    }
}

/// In gRPC's own list of status codes: `UNAUTHENTICATED`, `PERMISSION_DENIED`,
/// `RESOURCE_EXHAUSTED`, `UNAVAILABLE`.
#[test]
fn the_codes_are_those_of_grpc() {
    assert_eq!(ALL.map(code), ["16", "16", "16", "7", "8", "14"]);
}

/// What the protocol would encode: anything but `0x20..=0x7e`, and `%`.
#[test]
fn no_message_needs_percent_encoding() {
    for refusal in ALL {
        let message = refusal.message();
        assert!(message.bytes().all(|b| (0x20..=0x7e).contains(&b) && b != b'%'), "{message}");
    }
}

#[test]
fn what_is_grpc() {
    for yes in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc;charset=utf-8",
        "application/grpc ; charset=utf-8",
        "Application/GRPC",
    ] {
        assert!(is_grpc(&call(yes)), "{yes}");
    }
    for no in [
        "",
        "application/grp",
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpc-web-text",
        "application/grpcx",
        "application/grpc web",
        "application/json",
        " application/grpc",
        "text/plain; application/grpc",
    ] {
        assert!(!is_grpc(&call(no)), "{no}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

#[test]
fn everything_else_is_answered_by_the_other_renderer() {
    let other = |refusal: Refusal, _: &HeaderMap| Response::new(Bytes::from(refusal.message()));
    for refusal in ALL {
        for request in [call("application/grpc-web"), call("application/json"), HeaderMap::new()] {
            let response = Grpc::or(other).render(refusal, &request);
            assert_eq!(response.body(), refusal.message());
            let response = Grpc::new().render(refusal, &request);
            assert_eq!(response.status(), refusal.status());
            assert_eq!(response.headers()["content-type"], "application/json");
        }
    }
}

proptest! {
    #[test]
    fn nothing_but_the_type_is_looked_at(rest in "[ -~]{0,20}") {
        let given = call(&format!("application/grpc{rest}"));
        let expected = rest.is_empty() || rest.trim_start().starts_with(['+', ';']) || rest.trim().is_empty();
        prop_assert_eq!(is_grpc(&given), expected);
    }
}
