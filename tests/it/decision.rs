//! The decision, with a service in this process: what is let through, what is refused, and how.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_api_key::middleware::{AttachConnection, ProblemDetails, ResponseBody, require_scope};
use tower_api_key::{
    ApiKeyLayer, Connection, Entry, Fingerprint, Identity, KeyFormat, KeyStore, Lookup,
    ManualClock, MemoryStore, Refusal, Rejection, RejectionKind, StoreError, Transport,
    TrustedProxies,
};
use tower_http::timeout::TimeoutLayer;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{Log, account, digest, named, record, soon, text, time, with_key};

type Body = http_body_util::Full<Bytes>;

/// Says who calls, and whether the key came along.
async fn who(request: Request<()>) -> Result<Response<Body>, Infallible> {
    let identity = request.extensions().get::<Identity>();
    let account = identity.map_or("nobody", |identity| identity.account().as_str());
    let key = if request.headers().contains_key("api-key") { " with its key" } else { "" };
    Ok(Response::new(Body::from(format!("{account}{key}"))))
}

fn open(store: impl KeyStore) -> ApiKeyLayer {
    ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https())
}

async fn answer(layer: &ApiKeyLayer, request: Request<()>) -> Response<ResponseBody<Body>> {
    soon(layer.layer(service_fn(who)).oneshot(request)).await.unwrap()
}

async fn body(response: Response<ResponseBody<Body>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn with(headers: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        let name = http::HeaderName::try_from(*name).unwrap();
        request.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    request
}

fn kind(response: &Response<ResponseBody<Body>>) -> Option<RejectionKind> {
    response.extensions().get::<Rejection>().map(Rejection::kind)
}

#[tokio::test]
async fn a_valid_key_brings_its_identity_and_leaves_the_request() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let response = answer(&open(store), with(&[("api-key", key.as_bytes())])).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["vary"], "API-Key");
    assert_eq!(response.headers()["cache-control"], "private");
    assert_eq!(body(response).await, "admin@example.com");
}

#[tokio::test]
async fn a_kept_key_is_marked_as_sensitive() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = open(store).with_key_kept().layer(service_fn(async |request: Request<()>| {
        let value = &request.headers()["api-key"];
        assert!(value.is_sensitive());
        assert!(!format!("{:?}", request.headers()).contains("acme"));
        Ok::<_, Infallible>(Response::new(Bytes::from(value.as_bytes().to_vec())))
    }));
    let response = service.oneshot(with(&[("api-key", key.as_bytes())])).await.unwrap();
    assert_eq!(response.into_body().into_inner().unwrap(), key.as_bytes());
}

fn hexadecimal(bytes: &[u8], before: &str) -> String {
    bytes.iter().flat_map(|byte| [before.to_owned(), format!("{byte:02x}")]).collect()
}

#[tokio::test]
async fn a_kept_key_is_put_back_for_admitted_requests_only() {
    let mut record = record(&account("a"), time(0));
    record.digest = digest("the-key");
    let record = Arc::new(record);
    let layer = scripted(move |fingerprint| {
        let found = (fingerprint == record.fingerprint()).then(|| Entry::Live(Arc::clone(&record)));
        Lookup::waiting(async move {
            tokio::task::yield_now().await;
            Ok(found)
        })
    });
    let layer = layer.with_key_kept().with_renderer(|_: Refusal, request: &HeaderMap| {
        assert!(request.is_empty(), "the renderer sees no key: {request:?}");
        Response::new(Bytes::from("refused"))
    });
    assert_eq!(body(answer(&layer, with(&[("api-key", b"another")])).await).await, "refused");
    let response = answer(&layer, with(&[("api-key", b"the-key")])).await;
    assert_eq!(body(response).await, "a with its key");
}

/// Each way of sending a key that is not the one way: refused as if there were no such key.
#[tokio::test]
async fn bad_headers_are_refused_and_never_logged() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let valid = key.as_bytes();
    let percent = hexadecimal(key.as_bytes(), "%");
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &key);
    let hex = hexadecimal(key.as_bytes(), "");
    let digest_hex = hexadecimal(digest(&key).as_bytes(), "");
    let fingerprint = digest(&key).fingerprint().to_string();
    let joined = |before: &str, after: &str| format!("{before}{key}{after}").into_bytes();
    let bearer = format!("Bearer {key}");
    let cookie = format!("api-key={key}");

    let missing: [Vec<(&str, &[u8])>; 8] = [
        vec![],
        vec![("api-key", b"")],
        vec![("x-api-key", valid)],
        vec![("api_key", valid)],
        vec![("authorization", bearer.as_bytes())],
        vec![("authorization", valid)],
        vec![("cookie", cookie.as_bytes())],
        vec![("proxy-authorization", bearer.as_bytes())],
    ];
    let invalid: Vec<Vec<(&str, Vec<u8>)>> = vec![
        vec![("api-key", b" ".to_vec())],
        vec![("api-key", joined(" ", ""))],
        vec![("api-key", joined("", " "))],
        vec![("api-key", joined("\t", ""))],
        vec![("api-key", joined("", ","))],
        vec![("api-key", joined("", &format!(", {key}")))],
        vec![("api-key", joined("\"", "\""))],
        vec![("api-key", joined("'", "'"))],
        vec![("api-key", joined("Bearer ", ""))],
        vec![("api-key", joined("ApiKey ", ""))],
        vec![("api-key", percent.clone().into_bytes())],
        vec![("api-key", base64.clone().into_bytes())],
        vec![("api-key", hex.clone().into_bytes())],
        vec![("api-key", digest_hex.clone().into_bytes())],
        vec![("api-key", digest(&key).as_bytes().iter().map(|byte| byte | 0x80).collect())],
        vec![("api-key", fingerprint.clone().into_bytes())],
        vec![("api-key", key.to_uppercase().into_bytes())],
        vec![("api-key", key.to_lowercase().into_bytes())],
        vec![("api-key", joined("", "\u{e9}"))],
        vec![("api-key", vec![b'a'; 257])],
        vec![("api-key", vec![b'a'; 300 * 1024])],
        vec![("api-key", valid.to_vec()), ("api-key", valid.to_vec())],
        vec![("api-key", valid.to_vec()), ("api-key", b"another".to_vec())],
        vec![("api-key", b"another".to_vec()), ("api-key", valid.to_vec())],
        vec![("api-key", valid.to_vec()), ("api-key", b"".to_vec())],
    ];

    for format in [KeyFormat::Checked, KeyFormat::Any] {
        let (log, guard) = Log::capture();
        let layer = open(store.clone()).with_key_format(format);
        for headers in &missing {
            let response = answer(&layer, with(headers)).await;
            assert_eq!(kind(&response), Some(RejectionKind::MissingKey), "{headers:?}");
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(body(response).await.contains("API-Key header"));
        }
        let mut bodies = std::collections::BTreeSet::new();
        for headers in &invalid {
            let headers: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
            let response = answer(&layer, with(&headers)).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{headers:?}");
            assert_eq!(response.headers()["cache-control"], "no-store");
            bodies.insert(body(response).await);
        }
        assert_eq!(bodies.len(), 1, "one refusal for every invalid key: {bodies:?}");
        assert!(bodies.first().unwrap().contains("Invalid API key."));
        drop(guard);
        let log = log.text();
        for secret in [&key, &percent, &base64, &hex, &digest_hex] {
            assert!(!log.contains(secret.as_str()), "logged");
        }
        assert!(!log.contains("aaaaaaaa"), "logged");
    }
}

#[tokio::test]
async fn no_single_bit_of_a_key_can_be_another() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let layer = open(store).with_key_format(KeyFormat::Any);
    let mut tried = 0;
    for bit in 0..key.len() * 8 {
        let mut flipped = key.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The others (control characters, DEL) do not even make a header.
        let Ok(value) = HeaderValue::from_bytes(&flipped) else { continue };
        let mut request = Request::new(());
        request.headers_mut().insert("api-key", value);
        let response = answer(&layer, request).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "bit {bit}");
        tried += 1;
    }
    assert!(tried > key.len() * 6, "{tried}");
}

/// Which may be a password: 64 bits of its hash are enough to guess it by.
#[tokio::test]
async fn what_is_no_key_of_this_crate_is_not_named_in_the_log() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let strange = with_key(MemoryStore::new()).await.1;
    let layer = open(store).with_key_format(KeyFormat::Any);
    let (log, _guard) = Log::capture();
    for (text, is_named) in [("hunter2", false), (&key[1..], false), (strange.as_str(), true)] {
        let response = answer(&layer, with(&[("api-key", text.as_bytes())])).await;
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!(rejection.kind(), RejectionKind::UnknownKey);
        assert_eq!(rejection.fingerprint().is_some(), is_named, "{text}");
    }
    let named = log.lines("fingerprint=");
    assert_eq!(named.len(), 1, "{named:?}");
}

#[tokio::test]
async fn a_key_in_the_query_is_not_a_key() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let uri = format!("/?api-key={key}&api_key={key}&API-Key={key}");
    let request = Request::builder().uri(uri).body(()).unwrap();
    assert_eq!(kind(&answer(&open(store), request).await), Some(RejectionKind::MissingKey));
}

#[tokio::test]
async fn bearer_is_taken_where_the_service_opted_in() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let layer = open(store).with_bearer();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let value = format!("{scheme} {key}");
        let response = answer(&layer, with(&[("authorization", value.as_bytes())])).await;
        assert_eq!(response.status(), StatusCode::OK, "{scheme}");
        assert_eq!(response.headers()["vary"], "API-Key, Authorization");
    }
    let value = format!("Bearer {key}");
    let both = with(&[("authorization", value.as_bytes()), ("api-key", key.as_bytes())]);
    let response = answer(&layer, both).await;
    assert_eq!(kind(&response), Some(RejectionKind::AmbiguousKey));
    let challenges: Vec<_> = response.headers().get_all("www-authenticate").iter().collect();
    assert_eq!(challenges, [r#"ApiKey realm="api", header="API-Key""#, r#"Bearer realm="api""#]);

    let gone = layer.layer(service_fn(async |request: Request<()>| {
        assert!(request.headers().get("authorization").is_none());
        Ok::<_, Infallible>(Response::new(()))
    }));
    let response = gone.oneshot(with(&[("authorization", value.as_bytes())])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn whatever_is_wrong_over_plain_http_is_answered_with_https() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let layer = ApiKeyLayer::new(store);
    let peer = "127.0.0.1:1".parse().unwrap();
    for headers in [vec![], vec![("api-key", key.as_bytes())], vec![("api-key", &b"bad"[..])]] {
        let mut request = with(&headers);
        request.extensions_mut().insert(Connection::plain(peer));
        let response = answer(&layer, request).await;
        assert_eq!(kind(&response), Some(RejectionKind::NotHttps));
        assert!(body(response).await.contains("over HTTPS"));
    }
}

#[tokio::test]
async fn without_evidence_the_first_refusal_says_how_to_configure_it() {
    let (log, _guard) = Log::capture();
    let layer = ApiKeyLayer::new(MemoryStore::new());
    for _ in 0..3 {
        let response = answer(&layer, with(&[("api-key", b"any")])).await;
        assert_eq!(kind(&response), Some(RejectionKind::NotHttps));
    }
    let advice = log.lines("no request can be known to have come over HTTPS");
    assert_eq!(advice.len(), 1);
    assert!(advice[0].contains("ERROR") && advice[0].contains("Transport::behind"), "{advice:?}");
    assert_eq!(log.lines("request refused").len(), 3, "and each has its own event");
}

/// Nobody who asks over plain HTTP learns anything of a key, or waits for the store. A few keys are looked up
/// beside the request, for the operator.
#[tokio::test(start_paused = true)]
async fn no_request_over_plain_http_waits_for_a_lookup_and_few_make_one() {
    type Find = fn(Fingerprint) -> Lookup;
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let count = || ASKED.swap(0, Ordering::Relaxed);
    let cases: [(Find, &[u8], usize); 4] = [
        (|_| Lookup::waiting(pending()), b"x", 8),
        (|_| Lookup::waiting(async { panic!("while waiting") }), b"x", 8),
        (|_| panic!("at once"), b"x", 8),
        (|_| Lookup::waiting(pending()), b"no key at all", 0),
    ];
    for (find, key, lookups) in cases {
        let layer = scripted(move |fingerprint| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            find(fingerprint)
        })
        .with_transport(Transport::default());
        let began = tokio::time::Instant::now();
        for _ in 0..100 {
            let refused = answer(&layer, with(&[("api-key", key)])).await;
            assert_eq!(kind(&refused), Some(RejectionKind::NotHttps));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(count(), lookups);
        // Who has given up, and who has panicked, can be asked again after a while.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _ = answer(&layer, with(&[("api-key", key)])).await;
        tokio::task::yield_now().await;
        assert_eq!(count(), usize::from(lookups > 0));
    }
}

/// There a lookup has no end, and a panic for every request would be a flood of its own.
#[test]
fn without_timers_a_few_exposed_keys_are_tried_and_then_none() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let layer = scripted(|_| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        Lookup::ready(Ok(None))
    })
    .with_transport(Transport::default());
    let expose = async || {
        let request = with(&[("api-key", b"x")]);
        let refused = layer.layer(service_fn(who)).oneshot(request).await.unwrap();
        assert_eq!(kind(&refused), Some(RejectionKind::NotHttps));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for _ in 0..20 {
            expose().await;
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(expose());
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_may_be_missing_in_the_set_up_is_said_once_of_each_kind() {
    let (log, _guard) = Log::capture();
    let proxies = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap();
    let layers = [
        ApiKeyLayer::new(MemoryStore::new()),
        ApiKeyLayer::new(MemoryStore::new()).with_transport(Transport::behind(proxies)),
    ];
    for layer in layers {
        for peer in [[203, 0, 113, 9], [10, 1, 2, 3]] {
            for _ in 0..3 {
                let mut request = with(&[("api-key", b"any")]);
                request.extensions_mut().insert(Connection::plain((peer, 4711).into()));
                let refused = answer(&layer, request).await;
                assert_eq!(kind(&refused), Some(RejectionKind::NotHttps));
            }
        }
    }
    for advice in [
        "accept with tower_api_key::tls",
        "TrustedProxies must have its address",
        "It must set the header",
    ] {
        let lines = log.lines(advice);
        assert!(lines.len() == 1 && lines[0].contains("WARN"), "{advice}: {lines:?}");
    }
}

#[tokio::test]
async fn a_deleted_key_is_logged_as_that_key_and_refused_like_any_other() {
    let store = MemoryStore::new();
    let (manager, key) = with_key(store.clone()).await;
    let owner = account("admin@example.com");
    let record = manager.list(&owner).await.unwrap().remove(0);
    manager.delete(&owner, &record.id).await.unwrap();

    let (log, _guard) = Log::capture();
    let layer = open(store);
    let response = answer(&layer, with(&[("api-key", key.as_bytes())])).await;
    let rejection = response.extensions().get::<Rejection>().unwrap().clone();
    assert_eq!(rejection.kind(), RejectionKind::DeletedKey);
    assert_eq!(rejection.key_id(), Some(&record.id));
    assert_eq!(rejection.account(), Some(&owner));
    assert_eq!(rejection.key_name().unwrap().as_str(), "Production CRM");
    assert_eq!(rejection.fingerprint(), Some(record.fingerprint()));
    let events = log.lines("request refused");
    assert_eq!(events.len(), 1);
    assert!(events[0].contains("deleted key") && events[0].contains(record.id.as_str()));
    // Names are of any length, and take time that would tell.
    assert!(!events[0].contains("key_name") && !events[0].contains("account"), "{events:?}");
    let names = log.lines("whose key was refused");
    assert_eq!(names.len(), 1);
    for part in ["DEBUG", record.id.as_str(), "Production CRM", "admin@example.com"] {
        assert!(names[0].contains(part), "{part} in {names:?}");
    }
    assert_eq!(body(response).await, body(answer(&layer, with(&[("api-key", b"x")])).await).await);
    assert_eq!(log.lines("whose key was refused").len(), 1, "nobody's");
}

/// One of them wants more than the other, as where a collector stands beside the standard output.
#[tokio::test]
async fn of_two_that_listen_each_hears_of_every_refusal_what_it_wants_to() {
    let (few, all) = (Log::default(), Log::default());
    let listener = |log: &Log, level: LevelFilter| {
        let log = log.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false);
        layer.with_writer(move || log.clone()).with_filter(level)
    };
    let both = vec![listener(&few, LevelFilter::INFO), listener(&all, LevelFilter::DEBUG)];
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(both));
    let store = MemoryStore::new();
    let (manager, key) = with_key(store.clone()).await;
    let owner = account("admin@example.com");
    let id = manager.list(&owner).await.unwrap().remove(0).id.clone();
    manager.delete(&owner, &id).await.unwrap();
    let layer = open(store);
    for key in [&key, "x", &key, &key] {
        answer(&layer, with(&[("api-key", key.as_bytes())])).await;
    }
    assert_eq!((few.lines("request refused").len(), all.lines("request refused").len()), (4, 4));
    assert_eq!((few.lines("whose key").len(), all.lines("whose key").len()), (0, 3));
}

#[tokio::test]
async fn a_regenerated_secret_is_dead_at_once_and_the_new_one_works() {
    let store = MemoryStore::new();
    let (manager, old) = with_key(store.clone()).await;
    let owner = account("admin@example.com");
    let id = manager.list(&owner).await.unwrap()[0].id.clone();
    let new = text(manager.regenerate(&owner, &id).await.unwrap());
    let layer = open(store);
    let response = answer(&layer, with(&[("api-key", old.as_bytes())])).await;
    assert_eq!(kind(&response), Some(RejectionKind::RegeneratedKey));
    assert_eq!(answer(&layer, with(&[("api-key", new.as_bytes())])).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_key_expires_at_its_instant() {
    let store = MemoryStore::new();
    let clock = ManualClock::at(time(0));
    let manager = tower_api_key::KeyManager::new(store.clone(), "acme".parse().unwrap())
        .with_clock(clock.clone());
    let new = named("Short").with_expires_at(time(60));
    let key = text(manager.create(&account("a"), new).await.unwrap());
    let layer = open(store).with_clock(clock.clone());
    for (now, expected) in [
        (time(60) - Duration::from_nanos(1), None),
        (time(60), Some(RejectionKind::ExpiredKey)),
        (time(61), Some(RejectionKind::ExpiredKey)),
    ] {
        clock.set(now);
        let response = answer(&layer, with(&[("api-key", key.as_bytes())])).await;
        assert_eq!(kind(&response), expected);
    }
}

#[tokio::test]
async fn environment_and_scope_are_policy() {
    let store = MemoryStore::new();
    let manager = tower_api_key::KeyManager::new(store.clone(), "acme".parse().unwrap());
    let new = named("Reader")
        .with_environment("live".parse().unwrap())
        .with_scopes("bookings:read".parse().unwrap());
    let key = text(manager.create(&account("a"), new).await.unwrap());
    let ask = async |layer: ApiKeyLayer| answer(&layer, with(&[("api-key", key.as_bytes())])).await;

    let layer = open(store.clone()).with_environment("live".parse().unwrap());
    assert_eq!(ask(layer).await.status(), StatusCode::OK);
    let response = ask(open(store.clone()).with_environment("test".parse().unwrap())).await;
    assert_eq!(kind(&response), Some(RejectionKind::WrongEnvironment));
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    // Who forgot to say where this is lets no key in that is for some place.
    let response = ask(open(store.clone())).await;
    assert_eq!(kind(&response), Some(RejectionKind::WrongEnvironment));

    let anywhere = open(store).with_any_environment();
    let layer = anywhere.clone().with_required_scope("bookings:read".parse().unwrap());
    assert_eq!(ask(layer.clone()).await.status(), StatusCode::OK);
    let response = ask(anywhere.with_required_scope("bookings:write".parse().unwrap())).await;
    assert_eq!(kind(&response), Some(RejectionKind::MissingScope));
    // One scope more takes nothing from the first, whichever came first.
    let both = layer.with_required_scope("bookings:write".parse().unwrap());
    let more = both.clone().with_required_scope("bookings:read".parse().unwrap());
    for layer in [both.clone(), more] {
        assert_eq!(kind(&ask(layer).await), Some(RejectionKind::MissingScope));
    }
    let verifier = both.verifier().with_required_scope("bookings:read".parse().unwrap());
    let refused = verifier.verify(&key).await.unwrap_err();
    assert_eq!(refused.kind(), RejectionKind::MissingScope);
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(response.headers().get("www-authenticate").is_none());
}

/// A store that answers as the test wants.
struct Scripted(Box<dyn Fn(Fingerprint) -> Lookup + Send + Sync>);

impl KeyStore for Scripted {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        (self.0)(fingerprint)
    }
}

fn scripted(find: impl Fn(Fingerprint) -> Lookup + Send + Sync + 'static) -> ApiKeyLayer {
    open(Scripted(Box::new(find))).with_key_format(KeyFormat::Any)
}

fn broken() -> StoreError {
    StoreError::unavailable("test", "the disk is on fire")
}

#[tokio::test(start_paused = true)]
async fn a_broken_store_is_503_and_never_401() {
    type Find = fn(Fingerprint) -> Lookup;
    let cases: [(Find, RejectionKind); 6] = [
        (|_| Lookup::ready(Err(broken())), RejectionKind::StoreFailed),
        (|_| Lookup::waiting(ready(Err(broken()))), RejectionKind::StoreFailed),
        (|_| panic!("at once"), RejectionKind::StorePanicked),
        (|_| Lookup::waiting(async { panic!("while waiting") }), RejectionKind::StorePanicked),
        (|_| Lookup::waiting(pending()), RejectionKind::StoreTimedOut),
        (
            |_| {
                Lookup::waiting(async {
                    tokio::task::yield_now().await;
                    panic!("later")
                })
            },
            RejectionKind::StorePanicked,
        ),
    ];
    for (find, expected) in cases {
        let (log, _guard) = Log::capture();
        let started = tokio::time::Instant::now();
        let response = answer(&scripted(find), with(&[("api-key", b"some-key")])).await;
        assert_eq!(kind(&response), Some(expected));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(body(response).await.contains("api_error"));
        assert!(started.elapsed() <= Duration::from_secs(1), "within a second");
        let events = log.lines("request refused");
        assert_eq!(events.len(), 1);
        assert!(events[0].contains("ERROR") && !events[0].contains("some-key"), "{events:?}");
    }
}

#[tokio::test]
async fn the_whole_digest_is_compared_whatever_the_store_returns() {
    // A store that finds the same record under every fingerprint.
    let record = Arc::new(record(&account("a"), time(0)));
    let layer = scripted(move |_| Lookup::ready(Ok(Some(Entry::Live(Arc::clone(&record))))));
    let response = answer(&layer, with(&[("api-key", b"not-its-key")])).await;
    assert_eq!(kind(&response), Some(RejectionKind::UnknownKey));
}

#[tokio::test]
async fn a_store_that_waits_is_waited_for() {
    let mut record = record(&account("slow"), time(0));
    record.digest = digest("the-key");
    let record = Arc::new(record);
    let layer = scripted(move |fingerprint| {
        let record = Arc::clone(&record);
        Lookup::waiting(async move {
            tokio::task::yield_now().await;
            let found = fingerprint == record.fingerprint();
            Ok(found.then_some(Entry::Live(record)))
        })
    });
    let response = answer(&layer, with(&[("api-key", b"the-key")])).await;
    assert_eq!(body(response).await, "slow");
    let response = answer(&layer, with(&[("api-key", b"another")])).await;
    assert_eq!(kind(&response), Some(RejectionKind::UnknownKey));
}

/// Counts how many are ready or called, as a service with permits does.
#[derive(Clone)]
struct Permits(tower::limit::ConcurrencyLimit<Inner>);
type Inner = tower::util::BoxCloneService<Request<()>, Response<Body>, Infallible>;

impl Service<Request<()>> for Permits {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <tower::limit::ConcurrencyLimit<Inner> as Service<Request<()>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        // Panics unless this very service was made ready.
        self.0.call(request)
    }
}

fn permits(most: usize) -> Permits {
    let inner = Inner::new(service_fn(who));
    Permits(tower::limit::ConcurrencyLimit::new(inner, most))
}

#[tokio::test]
async fn the_service_that_was_made_ready_is_the_one_that_is_called() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let find = move |fingerprint| {
        let store = store.clone();
        Lookup::waiting(async move { store.find(fingerprint).await })
    };
    // `ConcurrencyLimit` panics when it is called without having been made ready.
    let mut service = scripted(find).layer(permits(1));
    for _ in 0..3 {
        let request = with(&[("api-key", key.as_bytes())]);
        let response = soon(async { service.ready().await.unwrap().call(request).await }).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn what_stands_beside_the_layer_makes_the_service_ready_too() {
    let request = || with(&[]);
    let mut scoped = require_scope("read".parse().unwrap()).layer(permits(1));
    let mut attached =
        AttachConnection::new(permits(1), Connection::plain(([127, 0, 0, 1], 1).into()));
    for _ in 0..3 {
        let refused = soon(async { scoped.ready().await.unwrap().call(request()).await }).await;
        assert_eq!(refused.unwrap().status(), StatusCode::UNAUTHORIZED);
        let called = soon(async { attached.ready().await.unwrap().call(request()).await }).await;
        assert_eq!(called.unwrap().status(), StatusCode::OK);
    }
    // While somebody else has the only permit, there is none.
    let mut taken = (scoped.clone(), attached.clone());
    tower::ServiceExt::<Request<()>>::ready(&mut taken.0).await.unwrap();
    tower::ServiceExt::<Request<()>>::ready(&mut taken.1).await.unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Service::<Request<()>>::poll_ready(&mut scoped, &mut context).is_pending());
    assert!(Service::<Request<()>>::poll_ready(&mut attached, &mut context).is_pending());
}

/// The caller hears that it must use HTTPS either way; that nobody can say whose key it was is for the operator.
#[tokio::test]
async fn an_exposed_key_that_cannot_be_looked_up_is_in_the_log() {
    type Find = fn(Fingerprint) -> Lookup;
    let cases: [(Find, usize); 2] =
        [(|_| Lookup::ready(Err(broken())), 1), (|_| Lookup::ready(Ok(None)), 0)];
    for (find, lines) in cases {
        let (log, _guard) = Log::capture();
        let layer = scripted(find).with_transport(Transport::default());
        let refused = answer(&layer, with(&[("api-key", b"x")])).await;
        assert_eq!(kind(&refused), Some(RejectionKind::NotHttps));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let said = log.lines("an exposed key could not be looked up");
        assert_eq!(said.len(), lines, "{}", log.text());
    }
}

#[tokio::test]
async fn a_refused_request_gives_its_readiness_back() {
    let layer = scripted(|_| Lookup::ready(Ok(None)));
    let service = layer.layer(permits(1));
    let mut idle = service.clone();
    let refused = idle.ready().await.unwrap().call(with(&[("api-key", b"x")])).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    // `idle` stays open, as a connection would. Its permit must not stay with it.
    let mut other = service.clone();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Service::<Request<()>>::poll_ready(&mut other, &mut context).is_ready());
}

#[tokio::test]
async fn a_dropped_call_stops_the_lookup_and_never_reaches_the_service() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    let token = Arc::new(());
    let held = Arc::clone(&token);
    let layer = scripted(move |_| {
        let held = Arc::clone(&held);
        Lookup::waiting(async move {
            pending::<()>().await;
            drop(held);
            unreachable!()
        })
    });
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        CALLED.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Response::new(()))
    }));
    let before = Arc::strong_count(&token);
    let mut call = Box::pin(service.call(with(&[("api-key", b"x")])));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(Arc::strong_count(&token), before + 1);
    drop(call);
    assert_eq!(Arc::strong_count(&token), before);
    assert_eq!(CALLED.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn one_slow_lookup_does_not_hold_up_another_request() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let fast = digest(&key).fingerprint();
    let layer = scripted(move |fingerprint| {
        if fingerprint == fast { store.find(fingerprint) } else { Lookup::waiting(pending()) }
    });
    let mut service = layer.layer(service_fn(who));
    let mut slow = Box::pin(service.call(with(&[("api-key", b"slow")])));
    assert!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let response = soon(service.call(with(&[("api-key", key.as_bytes())]))).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_of_any_type_pass_through() {
    // Neither body implements `Default` or `Body`.
    struct Upload(&'static str);
    struct Download(&'static str);
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let service = open(store).layer(service_fn(async |request: Request<Upload>| {
        Ok::<_, Infallible>(Response::new(Download(request.into_body().0)))
    }));
    let request = Request::builder().header("api-key", key).body(Upload("text")).unwrap();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.into_body().into_inner().map(|body| body.0), Ok("text"));
}

#[tokio::test]
async fn renderers_are_exchangeable_and_are_told_no_secret_reason() {
    let layer = open(MemoryStore::new());
    let response =
        answer(&layer.clone().with_renderer(ProblemDetails), with(&[("api-key", b"x")])).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!(problem["status"], 401);

    let own = layer.with_renderer(|refusal: Refusal, request: &HeaderMap| {
        assert!(!request.contains_key("api-key"), "the renderer sees no key");
        let language = request["accept-language"].to_str().unwrap();
        Response::new(Bytes::from(format!("{language}: {refusal:?}")))
    });
    let request = with(&[("api-key", b"x"), ("accept-language", b"de")]);
    let response = answer(&own, request).await;
    assert_eq!(kind(&response), Some(RejectionKind::WrongChecksum), "for outer layers");
    assert_eq!(body(response).await, "de: InvalidKey");
}

#[test]
fn without_a_runtime_memory_answers_and_waiting_is_503() {
    let mut context = Context::from_waker(Waker::noop());
    let mut poll = |layer: ApiKeyLayer| {
        let mut service = layer.layer(service_fn(who));
        let mut call = std::pin::pin!(service.call(with(&[("api-key", b"x")])));
        match call.as_mut().poll(&mut context) {
            Poll::Ready(response) => response.unwrap().status(),
            Poll::Pending => panic!("pending"),
        }
    };
    assert_eq!(poll(scripted(|_| Lookup::ready(Ok(None)))), StatusCode::UNAUTHORIZED);
    let waiting = scripted(|_| Lookup::waiting(pending()));
    assert_eq!(poll(waiting), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn an_unwanted_method_or_target_changes_nothing() {
    let layer = open(MemoryStore::new());
    for method in ["GET", "HEAD", "OPTIONS", "POST", "TRACE", "CONNECT", "PATCH", "FOO"] {
        for uri in ["/", "/nowhere", "https://host/", "*"] {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let response = answer(&layer, request).await;
            assert_eq!(kind(&response), Some(RejectionKind::MissingKey), "{method} {uri}");
        }
    }
}

/// As layers of CORS and of time limits do, which have no body of their own to answer with.
#[tokio::test]
async fn a_layer_outside_can_answer_with_nothing() {
    let store = MemoryStore::new();
    let (_, key) = with_key(store.clone()).await;
    let hangs =
        service_fn(async |_: Request<()>| pending::<Result<Response<Body>, Infallible>>().await);
    let limit = Duration::from_millis(10);
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit))
        .layer(open(store))
        .service(hangs);
    let late = soon(service.oneshot(with(&[("api-key", key.as_bytes())]))).await.unwrap();
    assert_eq!(late.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(body(late).await, "");
}
