use std::io;
use std::time::SystemTime;

use serde_json::Value;

use super::*;
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{EndCause, KeyRecord};
use crate::rejection::{RejectionKind as Kind, Subject};

const KINDS: [Kind; 18] = [
    Kind::NotHttps,
    Kind::MissingKey,
    Kind::AmbiguousKey,
    Kind::MalformedKey,
    Kind::UnknownKey,
    Kind::DeletedKey,
    Kind::RegeneratedKey,
    Kind::RotatedKey,
    Kind::WrongChecksum,
    Kind::ExpiredKey,
    Kind::WrongEnvironment,
    Kind::WrongSource,
    Kind::MissingScope,
    Kind::RateLimited,
    Kind::TooManyFailures,
    Kind::StoreFailed,
    Kind::StoreTimedOut,
    Kind::StorePanicked,
];

const CHALLENGE: &str = r#"ApiKey realm="api", header="API-Key""#;

/// What the contract with clients says of each kind: the status and the type in the body. A new kind
/// does not compile until it is here, and [`KINDS`] is where to add it too.
fn contract(kind: Kind) -> (u16, &'static str) {
    match kind {
        Kind::NotHttps
        | Kind::MissingKey
        | Kind::AmbiguousKey
        | Kind::MalformedKey
        | Kind::UnknownKey
        | Kind::DeletedKey
        | Kind::RegeneratedKey
        | Kind::RotatedKey
        | Kind::WrongChecksum
        | Kind::ExpiredKey
        | Kind::WrongEnvironment
        | Kind::WrongSource => (401, "authentication_error"),
        Kind::MissingScope => (403, "authentication_error"),
        Kind::RateLimited | Kind::TooManyFailures => (429, "rate_limit_error"),
        Kind::StoreFailed | Kind::StoreTimedOut | Kind::StorePanicked => (503, "api_error"),
    }
}

fn json() -> Answers {
    Answers::default()
}

fn rendering(renderer: impl RenderRefusal) -> Answers {
    Answers { renderer: Arc::new(renderer), ..Answers::default() }
}

fn with_bearer() -> Answers {
    Answers { bearer: true, ..Answers::default() }
}

fn refuse(answers: &Answers, kind: Kind) -> Response<Bytes> {
    answers.refuse(kind.into(), &HeaderMap::new())
}

/// A renderer that answers with the refusal's own status and these headers.
fn with_headers(lines: &'static [(&'static str, &'static str)]) -> impl RenderRefusal {
    move |refusal: Refusal, _: &HeaderMap| {
        let mut response = Response::new(Bytes::from_static(b"mine"));
        *response.status_mut() = refusal.status();
        for &(name, value) in lines {
            let value = HeaderValue::from_static(value);
            response.headers_mut().append(name, value);
        }
        response
    }
}

fn lines<B>(response: &Response<B>, name: &str) -> Vec<String> {
    let lines = response.headers().get_all(name).iter();
    lines.map(|line| line.to_str().unwrap().to_owned()).collect()
}

fn body(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

fn record() -> KeyRecord {
    KeyRecord::new(
        "key_1".parse().unwrap(),
        "admin@example.com".parse().unwrap(),
        "Production CRM".parse().unwrap(),
        KeyDigest::from_bytes([7; 32]),
        SystemTime::UNIX_EPOCH,
    )
}

#[test]
fn every_kind_has_its_status_and_type() {
    for kind in KINDS {
        let (status, of_type) = contract(kind);
        let response = refuse(&json(), kind);
        assert_eq!(response.status().as_u16(), status, "{kind:?}");
        assert_eq!(body(&response)["type"], of_type, "{kind:?}");
    }
}

#[test]
fn a_json_body_has_a_type_and_the_message_and_nothing_else() {
    for kind in KINDS {
        let response = refuse(&json(), kind);
        assert_eq!(lines(&response, "content-type"), ["application/json"]);
        let body = body(&response);
        assert_eq!(body["message"], kind.refusal().message());
        assert!(body["type"].is_string());
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    }
}

#[test]
fn problem_details_have_the_status_its_name_and_the_message_and_nothing_else() {
    for kind in KINDS {
        let refusal = kind.refusal();
        let response = refuse(&rendering(ProblemDetails), kind);
        assert_eq!(response.status(), refusal.status());
        assert_eq!(lines(&response, "content-type"), ["application/problem+json"]);
        let body = body(&response);
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], refusal.status().canonical_reason().unwrap());
        assert_eq!(body["status"], refusal.status().as_u16());
        assert_eq!(body["detail"], refusal.message());
        assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
    }
}

#[test]
fn the_answer_to_an_invalid_key_is_pinned() {
    let response = refuse(&json(), Kind::UnknownKey);
    let expected = r#"{"type":"authentication_error","message":"Invalid API key."}"#;
    assert_eq!(response.body(), expected);
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("cache-control", "no-store"),
            ("content-type", "application/json"),
            ("vary", "API-Key"),
            ("www-authenticate", CHALLENGE),
        ]
    );
}

#[test]
fn what_a_client_can_mend_is_said_plainly() {
    assert!(Refusal::MissingKey.message().contains("API-Key"));
    assert!(Refusal::NotHttps.message().contains("HTTPS"));
}

#[test]
fn every_refusal_that_depends_on_the_key_is_the_same_to_the_byte() {
    let fingerprint = Fingerprint::from_bytes([1; 8]);
    let live = Subject::Record(Arc::new(record()));
    let ended = record().tombstone(EndCause::Deleted, SystemTime::UNIX_EPOCH);
    let ended = Subject::Tombstone(Arc::new(ended));
    let rejections = [
        Rejection::from(Kind::MalformedKey),
        Rejection::from(Kind::AmbiguousKey),
        Rejection::from(Kind::MalformedKey).with_fingerprint(fingerprint),
        Rejection::from(Kind::UnknownKey).with_fingerprint(fingerprint),
        Rejection::from(Kind::UnknownKey).with_source(io::Error::other("told to the operator")),
        Rejection::from(Kind::DeletedKey).with_subject(ended.clone()),
        Rejection::from(Kind::RegeneratedKey).with_subject(ended),
        Rejection::from(Kind::ExpiredKey).with_subject(live.clone()),
        Rejection::from(Kind::WrongEnvironment).with_subject(live.clone()),
        Rejection::from(Kind::WrongSource).with_subject(live),
    ];
    let own = |refusal: Refusal, _: &HeaderMap| {
        let mut response = Response::new(Bytes::from(format!("{refusal:?}")));
        *response.status_mut() = refusal.status();
        response
    };
    for answers in [json(), with_bearer(), rendering(ProblemDetails), rendering(own)] {
        let written = |rejection: &Rejection| {
            let (parts, body) = answers.refuse(rejection.clone(), &HeaderMap::new()).into_parts();
            let headers: Vec<_> = parts.headers.into_iter().collect();
            (parts.status, parts.version, headers, body)
        };
        let first = written(&rejections[0]);
        for rejection in &rejections[1..] {
            assert_eq!(written(rejection), first, "{rejection:?}");
        }
    }
}

#[test]
fn the_other_refusals_differ_in_their_bodies() {
    let body = |kind| refuse(&json(), kind).into_body();
    let bodies = [
        body(Kind::NotHttps),
        body(Kind::MissingKey),
        body(Kind::UnknownKey),
        body(Kind::MissingScope),
        body(Kind::StoreFailed),
    ];
    for (at, one) in bodies.iter().enumerate() {
        assert!(!bodies[at + 1..].contains(one), "{one:?}");
    }
}

#[test]
fn every_401_has_the_challenge_and_nothing_else_has() {
    for kind in KINDS {
        let challenges = lines(&refuse(&json(), kind), "www-authenticate");
        match contract(kind).0 {
            401 => assert_eq!(challenges, [CHALLENGE], "{kind:?}"),
            _ => assert!(challenges.is_empty(), "{kind:?}"),
        }
    }
}

#[test]
fn where_bearer_is_taken_it_is_a_challenge_of_its_own() {
    for kind in KINDS {
        let challenges = lines(&refuse(&with_bearer(), kind), "www-authenticate");
        match contract(kind).0 {
            401 => assert_eq!(challenges, [CHALLENGE, r#"Bearer realm="api""#], "{kind:?}"),
            _ => assert!(challenges.is_empty(), "{kind:?}"),
        }
    }
}

#[test]
fn the_realm_is_named_in_both_challenges() {
    let mut answers = with_bearer();
    answers.set_realm("Acme API, v2 (live)").unwrap();
    assert_eq!(
        lines(&refuse(&answers, Kind::UnknownKey), "www-authenticate"),
        [
            r#"ApiKey realm="Acme API, v2 (live)", header="API-Key""#,
            r#"Bearer realm="Acme API, v2 (live)""#,
        ]
    );
}

#[test]
fn a_realm_that_could_break_out_of_its_quotes_is_refused() {
    let longest = "x".repeat(128);
    assert_eq!(json().set_realm(&longest), Ok(()));
    let too_long = "x".repeat(129);
    for realm in [
        "",
        "\"",
        "a\"b",
        "a\\",
        "a\nb",
        "a\r\nSet-Cookie: a=b",
        "a\0b",
        "a\tb",
        "a\u{7f}",
        "é",
        "名",
        &too_long,
    ] {
        let mut answers = with_bearer();
        assert!(answers.set_realm(realm).is_err(), "{realm:?}");
        // And the old one stays.
        let challenges = lines(&refuse(&answers, Kind::UnknownKey), "www-authenticate");
        assert_eq!(challenges, [CHALLENGE, r#"Bearer realm="api""#], "{realm:?}");
    }
}

#[test]
fn every_503_says_when_to_try_again_and_nothing_else_does() {
    for answers in [json(), rendering(ProblemDetails), rendering(with_headers(&[]))] {
        for kind in KINDS {
            let retry_after = lines(&refuse(&answers, kind), "retry-after");
            match contract(kind).0 {
                503 => assert_eq!(retry_after, ["1"], "{kind:?}"),
                _ => assert!(retry_after.is_empty(), "{kind:?}"),
            }
        }
    }
}

#[test]
fn a_renderers_own_retry_after_is_kept() {
    let answers = rendering(with_headers(&[("retry-after", "30")]));
    let response = refuse(&answers, Kind::StoreFailed);
    assert_eq!(lines(&response, "retry-after"), ["30"]);
}

#[test]
fn a_refusal_is_never_stored_whatever_the_renderer_says() {
    let public = rendering(with_headers(&[
        ("cache-control", "public, max-age=60"),
        ("cache-control", "immutable"),
    ]));
    for answers in [json(), with_bearer(), rendering(ProblemDetails), public] {
        for kind in KINDS {
            let response = refuse(&answers, kind);
            assert_eq!(lines(&response, "cache-control"), ["no-store"], "{kind:?}");
        }
    }
}

#[test]
fn a_refusal_varies_by_where_a_key_may_be() {
    for kind in KINDS {
        assert_eq!(lines(&refuse(&json(), kind), "vary"), ["API-Key"]);
        let response = refuse(&with_bearer(), kind);
        assert_eq!(lines(&response, "vary"), ["API-Key, Authorization"]);
    }
}

#[test]
fn a_redirection_is_not_sent() {
    for status in [300, 301, 302, 303, 304, 307, 308, 399] {
        let answers = rendering(move |_: Refusal, _: &HeaderMap| {
            Response::builder()
                .status(status)
                .header("location", "https://elsewhere.example/")
                .header("set-cookie", "a=b")
                .body(Bytes::from_static(b"moved"))
                .unwrap()
        });
        for kind in KINDS {
            let response = refuse(&answers, kind);
            assert_eq!(response.status(), kind.refusal().status());
            assert_eq!(response.headers(), refuse(&json(), kind).headers());
            assert_eq!(response.body(), refuse(&json(), kind).body());
        }
    }
}

#[test]
fn a_renderers_own_challenge_is_kept() {
    let mut answers = rendering(with_headers(&[("www-authenticate", "Custom realm=\"x\"")]));
    answers.bearer = true;
    let response = refuse(&answers, Kind::UnknownKey);
    assert_eq!(lines(&response, "www-authenticate"), ["Custom realm=\"x\""]);
}

#[test]
fn a_renderers_own_status_body_and_headers_are_kept() {
    let answers = rendering(|refusal: Refusal, request: &HeaderMap| {
        assert_eq!(refusal, Refusal::InvalidKey);
        assert_eq!(request["accept"], "text/plain");
        Response::builder()
            .status(404)
            .header("x-mine", "1")
            .body(Bytes::from_static(b"nothing here"))
            .unwrap()
    });
    let request = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/plain"))]);
    let response = answers.refuse(Kind::UnknownKey.into(), &request);
    assert_eq!(response.status(), 404);
    assert_eq!(lines(&response, "x-mine"), ["1"]);
    assert_eq!(response.body(), "nothing here");
    // The headers follow the status that is sent.
    assert!(lines(&response, "www-authenticate").is_empty());
    assert_eq!(lines(&response, "cache-control"), ["no-store"]);
}

#[test]
fn the_real_reason_is_in_the_extensions_and_not_in_the_answer() {
    for kind in KINDS {
        let rejection = Rejection::from(kind)
            .with_fingerprint(Fingerprint::from_bytes([0xab; 8]))
            .with_subject(Subject::Record(Arc::new(record())))
            .with_source(io::Error::other("db-7 refused the connection"));
        let response = json().refuse(rejection, &HeaderMap::new());
        let kept = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(kept.kind(), kind);
        assert_eq!(kept.key_id().unwrap().as_str(), "key_1");
        let sent = format!("{:?} {:?}", response.headers(), response.body());
        for secret in ["abababab", "key_1", "admin@example.com", "CRM", "db-7"] {
            assert!(!sent.contains(secret), "{secret} in {sent}");
        }
    }
}

/// An answer of a protected service with these headers, after the layer.
fn protected(headers: &[(&'static str, &'static str)], bearer: bool) -> Response<&'static str> {
    let mut response = Response::new("data");
    for &(name, value) in headers {
        let value = HeaderValue::from_static(value);
        response.headers_mut().append(name, value);
    }
    Answers::keep_private(response.headers_mut(), bearer);
    response
}

#[test]
fn a_protected_answer_is_private_and_varies_by_the_key() {
    let response = protected(&[], false);
    assert_eq!(lines(&response, "cache-control"), ["private"]);
    assert_eq!(lines(&response, "vary"), ["API-Key"]);
    assert_eq!(response.headers().len(), 2);
    assert_eq!(response.into_body(), "data");
}

#[test]
fn a_protected_answer_varies_by_authorization_too_where_bearer_is_taken() {
    let response = protected(&[], true);
    assert_eq!(lines(&response, "cache-control"), ["private"]);
    assert_eq!(lines(&response, "vary"), ["API-Key, Authorization"]);
}

#[test]
fn a_services_own_cache_control_is_left_alone() {
    for own in ["no-store", "public, max-age=60", "private, max-age=5", ""] {
        let response = protected(&[("cache-control", own)], false);
        assert_eq!(lines(&response, "cache-control"), [own]);
        assert_eq!(lines(&response, "vary"), ["API-Key"]);
    }
}

#[test]
fn vary_is_added_to_a_services_own() {
    for own in ["accept-encoding", "Accept, Origin", "X-API-Key", "api-key-2", "api key", "", "a*"]
    {
        let response = protected(&[("vary", own)], false);
        assert_eq!(lines(&response, "vary"), [own, "API-Key"]);
    }
}

#[test]
fn both_places_of_a_key_are_added_to_a_services_own_vary_where_bearer_is_taken() {
    let response = protected(&[("vary", "accept")], true);
    assert_eq!(lines(&response, "vary"), ["accept", "API-Key", "Authorization"]);
    let response = protected(&[("vary", "authorization")], true);
    assert_eq!(lines(&response, "vary"), ["authorization", "API-Key"]);
}

#[test]
fn vary_is_not_repeated() {
    for own in [
        "API-Key",
        "api-key",
        "Api-KEY",
        "Accept, API-Key",
        "api-key,accept",
        "accept,\tapi-key , origin",
        "*",
        "accept, *",
    ] {
        let response = protected(&[("vary", own)], false);
        assert_eq!(lines(&response, "vary"), [own]);
    }
    let response = protected(&[("vary", "accept"), ("vary", "api-key")], false);
    assert_eq!(lines(&response, "vary"), ["accept", "api-key"]);
}

#[test]
fn a_renderers_vary_is_completed_too() {
    let answers = rendering(with_headers(&[("vary", "accept-language")]));
    let response = refuse(&answers, Kind::UnknownKey);
    assert_eq!(lines(&response, "vary"), ["accept-language", "API-Key"]);
}
