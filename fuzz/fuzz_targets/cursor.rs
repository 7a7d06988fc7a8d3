//! Pages of a list: pages that follow each other's links show every key once and in order, however many
//! are asked for; any other cursor is refused, or is another place in the same list.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_api_key::testing::TestKeys;
use tower_api_key::{NewKey, Principal, manage};
use tower_api_key_fuzz::now;

struct SignedIn;

impl FromRequestParts<()> for SignedIn {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, (): &()) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

impl From<SignedIn> for Principal {
    fn from(_: SignedIn) -> Self {
        Self::new("test@example.com".parse().expect("an account"))
    }
}

/// Seven keys, some of them made in the same instant, and the cursors that lead to what follows each.
static GIVEN: LazyLock<(Router, Vec<String>, BTreeMap<String, usize>)> = LazyLock::new(|| {
    let keys = TestKeys::new();
    for at in 0..7 {
        let new = NewKey::new("made".parse().expect("a name"));
        now(keys.make("test@example.com", new));
        keys.clock().advance(Duration::from_millis(at % 2 * 100));
    }
    let router = manage::api::router::<SignedIn>(keys.manager().clone());
    let (_, all, _) = page(&router, "").expect("all of them");
    let mut cursors = BTreeMap::new();
    for size in 1..all.len() {
        let (_, shown, next) = page(&router, &format!("limit={size}")).expect("a page");
        assert_eq!(shown, all[..size]);
        let next = next.expect("there are more");
        cursors.insert(next.split("after=").nth(1).expect("a cursor").to_owned(), size);
    }
    (router, all, cursors)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (router, all, cursors) = &*GIVEN;

    // The query as it is.
    if let Some((status, shown, next)) = page(router, text) {
        if status == StatusCode::OK {
            let at = all.iter().position(|id| Some(id) == shown.first()).unwrap_or(all.len());
            assert_eq!(shown, all[at..at + shown.len()], "a part of the list, in order");
            assert_eq!(next.is_some(), !shown.is_empty() && at + shown.len() < all.len());
        } else {
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
    }
    // As the cursor, alone: the same text that was given out leads on; no other writes the same place.
    for text in [Some(text.to_owned()), altered(cursors, text)].into_iter().flatten() {
        let Some((status, shown, _)) = page(router, &format!("after={text}")) else { continue };
        if let Some(&size) = cursors.get(&text) {
            assert_eq!((status, &shown[..]), (StatusCode::OK, &all[size..]));
        } else if status == StatusCode::OK && means_nothing_to_a_query(&text) {
            let is_taken = cursors.keys().any(|given| place(given) == place(&text));
            assert!(!is_taken, "{text} is another way to write a cursor that was given out");
        }
    }
    // Pages of this many, one after the other.
    let size = usize::from(data.first().copied().unwrap_or_default() % 9) + 1;
    let (mut seen, mut query) = (Vec::new(), Some(format!("limit={size}")));
    while let Some(asked) = query {
        let (_, shown, next) = page(router, &asked).expect("a page");
        assert!(!shown.is_empty() && shown.len() <= size);
        seen.extend(shown);
        query = next;
    }
    assert_eq!(&seen, all);
});

/// A cursor that was given out, some of it replaced by what is behind two letters that say where. They are
/// never the same twice, so no input has one.
fn altered(cursors: &BTreeMap<String, usize>, text: &str) -> Option<String> {
    let [which, at, ..] = *text.as_bytes() else { return None };
    let (which, at) = (usize::from(which), usize::from(at));
    let mut cursor = cursors.keys().nth(which % cursors.len())?.clone();
    let from = at % (cursor.len() + 1);
    let to = (from + which / cursors.len() % 3).min(cursor.len());
    cursor.replace_range(from..to, text.get(2..)?);
    Some(cursor)
}

fn means_nothing_to_a_query(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=".contains(&byte))
}

/// What is written in a cursor, as leniently as it can be read: a time and an id, in base64.
fn place(cursor: &str) -> Option<(u64, String)> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0, 0);
    for letter in cursor.trim_end_matches('=').chars() {
        held = (held << 6 | LETTERS.find(letter)?) & 0xfff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let (milliseconds, id) = text.split_once('.')?;
    Some((milliseconds.parse().ok()?, id.to_owned()))
}

/// The status, the ids on the page, and the query of the next one.
fn page(router: &Router, query: &str) -> Option<(StatusCode, Vec<String>, Option<String>)> {
    let request = Request::get(format!("/api-keys?{query}")).body(Body::empty()).ok()?;
    let response = now(router.clone().oneshot(request)).expect("infallible");
    let (parts, body) = response.into_parts();
    assert!(!parts.status.is_server_error(), "{}", parts.status);
    let next = parts.headers.get(header::LINK).map(|link| {
        let link = link.to_str().expect("text");
        let (target, relation) = link.split_once('>').expect("a link");
        assert_eq!(relation, r#"; rel="next""#);
        target.strip_prefix("<api-keys?").expect("its own path").to_owned()
    });
    let body = now(body.collect()).expect("a body").to_bytes();
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    let ids = told["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ids = ids.iter().map(|key| key["id"].as_str().expect("an id").to_owned());
    Some((parts.status, ids.collect(), next))
}
