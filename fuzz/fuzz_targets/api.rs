//! The management API, whatever is sent to it: never a 5xx, always a clear answer, nothing half done, and
//! the secret in the one answer that may have it.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_api_key::testing::TestKeys;
use tower_api_key::{Principal, RejectionKind, manage};
use tower_api_key_fuzz::now;

/// Whoever calls is `test@example.com`.
struct SignedIn;

impl FromRequestParts<()> for SignedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, (): &()) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

impl From<SignedIn> for Principal {
    fn from(_: SignedIn) -> Self {
        let scopes = "a b read".parse().expect("scopes");
        Self::new("test@example.com".parse().expect("an account")).with_grantable_scopes(scopes)
    }
}

#[derive(Arbitrary, Debug)]
struct Sent<'a> {
    call: Call<'a>,
    headers: Headers<'a>,
    body: SentBody<'a>,
    wait: Option<u16>,
}

#[derive(Arbitrary, Debug)]
enum Call<'a> {
    List { query: &'a str },
    Create,
    Show(u8),
    Rename(u8),
    Regenerate(u8),
    Rotate(u8),
    Delete(u8),
    Any { method: &'a str, path: &'a str },
}

#[derive(Arbitrary, Debug)]
struct Headers<'a> {
    content_type: Option<&'a [u8]>,
    idempotency_key: Option<&'a [u8]>,
    site: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
}

#[derive(Arbitrary, Debug)]
enum SentBody<'a> {
    Raw(&'a [u8]),
    New {
        name: &'a str,
        environment: Option<&'a str>,
        expires_at: Option<&'a str>,
        scopes: Option<Vec<&'a str>>,
    },
    Grace(i64),
    Name(&'a str),
}

fuzz_target!(|calls: Vec<Sent<'_>>| {
    let keys = TestKeys::new();
    let manager = keys.manager().clone().with_limit(3);
    let router = manage::api::router::<SignedIn>(manager);
    for sent in calls.into_iter().take(16) {
        let before = snapshot(&keys);
        let Some(answer) = send(&router, &sent, &before) else { continue };
        holds(&keys, &answer, &before, &snapshot(&keys));
        if let Some(seconds) = sent.wait {
            keys.clock().advance(Duration::from_secs(seconds.into()));
        }
    }
});

/// Ids, with everything that is kept of them.
fn snapshot(keys: &TestKeys) -> Vec<(String, String)> {
    let all = now(keys.manager().list(keys.account())).expect("a store");
    all.iter().map(|record| (record.id.to_string(), format!("{record:?}"))).collect()
}

struct Answer {
    /// To a call that may change something.
    is_to_write: bool,
    is_to_regenerate: bool,
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

fn send(router: &Router, sent: &Sent<'_>, known: &[(String, String)]) -> Option<Answer> {
    let id = |key: &u8| {
        let at = usize::from(*key) % (known.len() + 1);
        known.get(at).map_or("key_nobodys", |(id, _)| id).to_owned()
    };
    let (method, path) = match &sent.call {
        Call::List { query } => ("GET", format!("/api-keys?{query}")),
        Call::Create => ("POST", "/api-keys".to_owned()),
        Call::Show(key) => ("GET", format!("/api-keys/{}", id(key))),
        Call::Rename(key) => ("PATCH", format!("/api-keys/{}", id(key))),
        Call::Regenerate(key) => ("POST", format!("/api-keys/{}/regenerate", id(key))),
        Call::Rotate(key) => ("POST", format!("/api-keys/{}/rotate", id(key))),
        Call::Delete(key) => ("DELETE", format!("/api-keys/{}", id(key))),
        Call::Any { method, path } => (*method, format!("/{path}")),
    };
    let mut request = Request::builder().method(method).uri(path);
    let given = [
        ("content-type", sent.headers.content_type.or(Some(b"application/json"))),
        ("idempotency-key", sent.headers.idempotency_key),
        ("sec-fetch-site", sent.headers.site),
        ("origin", sent.headers.origin),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let body = match &sent.body {
        SentBody::Raw(bytes) => bytes.to_vec(),
        SentBody::Name(name) => serde_json::json!({ "name": name }).to_string().into_bytes(),
        SentBody::Grace(grace) => {
            serde_json::json!({ "grace_seconds": grace }).to_string().into_bytes()
        }
        SentBody::New { name, environment, expires_at, scopes } => {
            let mut all = serde_json::Map::new();
            all.insert("name".to_owned(), (*name).into());
            let more = [("environment", environment), ("expires_at", expires_at)];
            for (field, value) in more {
                if let Some(value) = value {
                    all.insert(field.to_owned(), (*value).into());
                }
            }
            if let Some(scopes) = scopes {
                all.insert("scopes".to_owned(), scopes.clone().into());
            }
            Value::Object(all).to_string().into_bytes()
        }
    };
    let request = request.body(Body::from(body)).ok()?;
    let method = request.method().as_str();
    let is_to_write = !matches!(method, "GET" | "HEAD" | "OPTIONS");
    let is_to_regenerate = method == "POST" && request.uri().path().ends_with("/regenerate");
    let response = now(router.clone().oneshot(request)).expect("infallible");
    let (parts, body) = response.into_parts();
    let body = now(body.collect()).expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    let (status, headers) = (parts.status, parts.headers);
    Some(Answer { is_to_write, is_to_regenerate, status, headers, text })
}

/// Every secret in a text: what reads as a key and is, or was, one.
fn secrets<'a>(keys: &TestKeys, text: &'a str) -> Vec<&'a str> {
    static SHAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("test_(?:[a-z0-9]{1,16}_)?[0-9A-Za-z]{49}").expect("an expression")
    });
    let is_known = |text: &&str| match now(keys.layer().verifier().verify(text)) {
        Ok(_) => true,
        Err(refused) => {
            !matches!(refused.kind(), RejectionKind::UnknownKey | RejectionKind::WrongChecksum)
        }
    };
    SHAPE.find_iter(text).map(|found| found.as_str()).filter(is_known).collect()
}

fn holds(
    keys: &TestKeys,
    answer: &Answer,
    before: &[(String, String)],
    after: &[(String, String)],
) {
    let (status, text) = (answer.status, answer.text.as_str());
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert!(secrets(keys, &format!("{:?}", answer.headers)).is_empty(), "no header has a secret");
    assert!(!status.is_server_error(), "{status}: {text}");
    assert!(!status.is_redirection(), "{status}");
    if !status.is_success() || !answer.is_to_write {
        assert_eq!(before, after, "{status}: a refused call changes nothing");
    }
    if status == StatusCode::NO_CONTENT {
        assert!(text.is_empty());
        assert_eq!(after.len() + 1, before.len(), "one is deleted");
        return;
    }
    if text.is_empty() {
        // What CORS asks for ahead is not answered with a document.
        return;
    }
    let told: Value = serde_json::from_str(text).expect("JSON");
    // A repeat of a creation is told which key was made, and never shown its secret.
    let is_shown = status == StatusCode::CREATED || status.is_success() && answer.is_to_regenerate;
    assert_eq!(told.get("api_key").is_some(), is_shown, "{text}");
    let shown: Vec<&str> = told["api_key"].as_str().into_iter().collect();
    assert_eq!(secrets(keys, text), shown, "a secret is in its place, once, and nowhere else");
    if status.is_success() {
        let is_fresh = !before.iter().any(|(id, _)| told["id"] == id.as_str());
        assert_eq!(is_fresh && told.get("id").is_some(), status == StatusCode::CREATED, "{text}");
    } else {
        let kind = told["type"].as_str().expect("a type");
        assert!(["invalid_request_error", "authentication_error"].contains(&kind), "{text}");
        assert!(told["message"].as_str().is_some_and(|message| message.ends_with('.')), "{text}");
    }
}
