//! Keys that others have seen: found by a scanner, sent in the clear, ended by whoever has one.

mod github;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::axum::Router;
use ::axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use proptest::prelude::*;
use regex::Regex;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::axum::{Protected, protect, self_revoke};
use tower_api_key::leaks::RevokeExposed;
use tower_api_key::{
    ApiKeyLayer, Connection, Entry, Exposure, Fingerprint, KeyEvent, KeyEvents, KeyManager,
    KeyPrefix, KeyRecord, KeyRegistry as _, KeyStore as _, KeyText, Lookup, MemoryStore, Transport,
    TrustedProxies, Written,
};

use crate::contract_broken::faulty::{Broken, Faulty};
use crate::ends::Watched;
use crate::support::{Log, account, digest, named, seasoned_tls, soon, text, with_key};

fn has_checksum(text: &str) -> bool {
    KeyText::parse(text.as_bytes()).unwrap().has_checksum()
}

/// The one match in a text, if there is one.
fn found<'a>(prefix: &str, text: &'a str) -> Option<&'a str> {
    let pattern = prefix.parse::<KeyPrefix>().unwrap().scanner_pattern();
    Regex::new(&pattern).unwrap().find(text).map(|found| found.as_str())
}

/// A key that a manager with the prefix makes.
fn made(prefix: &str, environment: Option<&str>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let manager = KeyManager::new(MemoryStore::new(), prefix.parse().unwrap());
        let new = match environment {
            Some(environment) => named("x").with_environment(environment.parse().unwrap()),
            None => named("x"),
        };
        text(manager.create(&account("a"), new).await.unwrap())
    })
}

proptest! {
    #[test]
    fn the_pattern_finds_every_key_and_nothing_around_it(
        prefix in "[a-z][a-z0-9]{1,15}",
        environment in proptest::option::of("[a-z0-9]{1,16}"),
        before in "|[ \"'=:/\n-]|key=|Bearer ",
        after in "|[ \"',;&\n.-]",
    ) {
        let key = made(&prefix, environment.as_deref());
        prop_assert!(has_checksum(&key));
        let text = format!("{before}{key}{after}");
        prop_assert_eq!(found(&prefix, &text), Some(key.as_str()));
    }

    #[test]
    fn the_pattern_passes_near_misses_over(change in 0..6_usize, at in 5..54_usize) {
        let key = made("acme", None);
        let text = match change {
            0 => format!("x{key}"),
            1 => format!("{key}x"),
            2 => key[..key.len() - 1].to_owned(),
            3 => key.replace("acme", "acmf"),
            4 => key.replace("acme", "ACME"),
            _ => format!("{}-{}", &key[..at], &key[at + 1..]),
        };
        prop_assert_eq!(found("acme", &text), None, "{}", text);
    }

    #[test]
    fn a_false_positive_has_no_good_checksum(at in 5..54_usize, digit in "[0-9A-Za-z]") {
        let mut key = made("acme", None);
        prop_assume!(key[at..=at] != digit);
        key.replace_range(at..=at, &digit);
        prop_assert_eq!(found("acme", &key), Some(key.as_str()));
        prop_assert!(!has_checksum(&key));
    }
}

/// A call over a connection that is not HTTPS.
async fn call_in_the_clear(layer: &ApiKeyLayer, key: &str) -> StatusCode {
    let service =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let mut request = Request::builder().header("api-key", key).body(()).unwrap();
    request.extensions_mut().insert(Connection::plain(([192, 0, 2, 1], 4711).into()));
    soon(layer.layer(service).oneshot(request)).await.unwrap().status()
}

/// Waits until a key of the account `a` is gone.
async fn is_gone(manager: &KeyManager, id: &tower_api_key::KeyId) {
    soon(async {
        while manager.get(&account("a"), id).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_came_in_the_clear_is_revoked_after_the_refusal() {
    let (log, _guard) = Log::capture();
    let store = MemoryStore::new();
    let (manager, other) = with_key(store.clone()).await;
    let issued = manager.create(&account("a"), named("x")).await.unwrap();
    let id = issued.record().id.clone();
    let key = text(issued);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let layer = ApiKeyLayer::new(store)
        .with_transport(seasoned_tls().await)
        .with_events(RevokeExposed::by(manager.clone().acting_for("exposed".parse().unwrap())))
        .with_events(move |event: &KeyEvent<'_>| {
            if let KeyEvent::Exposed { key, exposure } = event {
                assert_eq!(*exposure, Exposure::InTheClear);
                noted.lock().unwrap().push(key.id.clone());
            }
        });
    let open = layer.clone().with_transport(Transport::dangerously_assume_https());
    assert_eq!(call_in_the_clear(&open, &key).await, StatusCode::OK);
    assert_eq!(manager.list(&account("a")).await.unwrap().len(), 1, "over HTTPS nothing happens");

    assert_eq!(call_in_the_clear(&layer, &key).await, StatusCode::UNAUTHORIZED);
    is_gone(&manager, &id).await;
    assert_eq!(*seen.lock().unwrap(), [id]);
    assert_eq!(call_in_the_clear(&open, &key).await, StatusCode::UNAUTHORIZED);
    assert_eq!(call_in_the_clear(&open, &other).await, StatusCode::OK, "no other key is touched");
    soon(async {
        while log.lines("an exposed key is revoked").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(log.text().contains("actor=\"exposed\"") || log.text().contains("actor=exposed"));
    assert!(!log.text().contains(&key[5..]), "{}", log.text());
}

#[tokio::test]
async fn a_key_with_another_secret_since_is_left_alone() {
    let (log, _guard) = Log::capture();
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let issued = manager.create(&account("a"), named("x")).await.unwrap();
    let old = issued.record().clone();
    let _ = manager.regenerate(&account("a"), &old.id).await.unwrap();
    let revoke = RevokeExposed::by(manager.clone());
    revoke.hear(&KeyEvent::Exposed { key: &old, exposure: Exposure::InTheClear });
    // And of nothing else.
    let new = manager.get(&account("a"), &old.id).await.unwrap();
    revoke.hear(&KeyEvent::Expiring { key: &new });
    soon(async {
        while log.lines("an exposed key is revoked").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(log.text().contains("was_live=false"));
    assert!(manager.get(&account("a"), &old.id).await.is_ok());
    assert!(log.lines("key deleted").is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_it_is_tried_again_and_then_given_up() {
    let (log, _guard) = Log::capture();
    let store = Watched::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let revoke = RevokeExposed::by(manager.clone());
    let make = async || manager.create(&account("a"), named("x")).await.unwrap().record().clone();
    let (first, second) = (make().await, make().await);
    let expose = |key| revoke.hear(&KeyEvent::Exposed { key, exposure: Exposure::InTheClear });

    store.fails.store(true, Ordering::SeqCst);
    expose(&first);
    tokio::time::sleep(Duration::from_secs(3)).await;
    store.fails.store(false, Ordering::SeqCst);
    is_gone(&manager, &first.id).await;

    store.fails.store(true, Ordering::SeqCst);
    expose(&second);
    tokio::time::sleep(Duration::from_mins(1)).await;
    store.fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(manager.get(&account("a"), &second.id).await.is_ok(), "given up");
    assert_eq!(log.lines("was not revoked, and works").len(), 1);
}

#[test]
fn outside_of_a_runtime_it_says_that_the_key_works() {
    let (log, _guard) = Log::capture();
    let record = crate::support::record(&account("a"), crate::support::time(0));
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let exposed = KeyEvent::Exposed { key: &record, exposure: Exposure::InTheClear };
    RevokeExposed::by(manager).hear(&exposed);
    assert_eq!(log.lines("was not revoked, and works").len(), 1);
}

fn service(store: &MemoryStore, manager: &KeyManager) -> Protected {
    let api = Router::new()
        .route("/", get(async || "in"))
        .route("/self-revoke", self_revoke(manager.clone()));
    let layer = ApiKeyLayer::new(store.clone());
    protect(api, layer.with_transport(Transport::dangerously_assume_https()))
}

async fn ask(service: &Protected, method: &str, path: &str, key: Option<&str>) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("api-key", key);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    soon(service.clone().oneshot(request)).await.unwrap().status()
}

#[tokio::test]
async fn a_key_ends_itself_and_no_other() {
    let store = MemoryStore::new();
    let (manager, key) = with_key(store.clone()).await;
    let sibling = account("admin@example.com");
    let sibling = text(manager.create(&sibling, named("Sibling")).await.unwrap());
    let service = service(&store, &manager);
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let status = ask(&service, method, "/self-revoke", Some(&key)).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    assert_eq!(ask(&service, "POST", "/self-revoke", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&service, "GET", "/", Some(&key)).await, StatusCode::OK);
    assert_eq!(ask(&service, "POST", "/self-revoke", Some(&key)).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(&service, "GET", "/", Some(&key)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&service, "POST", "/self-revoke", Some(&key)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&service, "GET", "/", Some(&sibling)).await, StatusCode::OK);
}

#[tokio::test]
async fn a_key_that_cannot_end_itself_now_is_told_to_try_again() {
    let store = Watched::new();
    let (manager, key) = with_key(store.clone()).await;
    let service = service(&store.inner, &manager);
    store.fails.store(true, Ordering::SeqCst);
    let status = ask(&service, "POST", "/self-revoke", Some(&key)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&service, "GET", "/", Some(&key)).await, StatusCode::OK);
    store.fails.store(false, Ordering::SeqCst);
    assert_eq!(ask(&service, "POST", "/self-revoke", Some(&key)).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(&service, "GET", "/", Some(&key)).await, StatusCode::UNAUTHORIZED);
}

/// What is told of a key that was sent so, once it was told of.
async fn told_of(layer: ApiKeyLayer, request: Request<()>) -> Exposure<'static> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let layer = layer.with_events(move |event: &KeyEvent<'_>| {
        if let KeyEvent::Exposed { exposure, .. } = event {
            let was_plain = *exposure == Exposure::InTheClear;
            tell.send(if was_plain { Exposure::InTheClear } else { Exposure::Unproven }).unwrap();
        }
    });
    let service =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    soon(layer.layer(service).oneshot(request)).await.unwrap();
    soon(told.recv()).await.unwrap()
}

/// A service that was told nothing of its connections, or whose balancer has got another address, refuses
/// everybody. Nobody's key must be gone when that is mended.
#[tokio::test]
async fn a_key_that_may_have_come_over_https_is_told_of_and_never_revoked() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let key = text(manager.create(&account("a"), named("x")).await.unwrap());
    let layer = || ApiKeyLayer::new(store.clone()).with_events(RevokeExposed::by(manager.clone()));
    let behind = || {
        let proxies =
            TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap().with_x_forwarded_for();
        layer().with_transport(Transport::behind(proxies))
    };
    let send = |peer: Option<[u8; 4]>, headers: &[(&str, &str)]| {
        let mut request = Request::builder().header("api-key", &key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(Connection::plain((peer, 4711).into()));
        }
        request
    };
    let (proxy, stranger) = (Some([10, 0, 0, 1]), Some([192, 0, 2, 1]));
    let https = ("x-forwarded-proto", "https");
    for (layer, request) in [
        (layer(), send(None, &[])),
        // Behind what ends TLS and leaves no trace, everything looks so.
        (layer(), send(stranger, &[])),
        (layer(), send(stranger, &[https])),
        (behind(), send(None, &[https])),
        (behind(), send(stranger, &[https])),
        (behind(), send(stranger, &[])),
        (behind(), send(proxy, &[])),
        (behind(), send(proxy, &[("x-forwarded-proto", "https, http")])),
        (behind(), send(proxy, &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "http")])),
        (layer().with_transport(Transport::insecure_on_loopback()), send(stranger, &[])),
        (layer().dangerously_in_shadow_mode(), send(stranger, &[])),
    ] {
        assert_eq!(told_of(layer, request).await, Exposure::Unproven);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(manager.list(&account("a")).await.unwrap().len(), 1);

    let with_tls = ApiKeyLayer::new(store.clone()).with_transport(seasoned_tls().await);
    for (layer, request) in [
        (with_tls, send(stranger, &[])),
        (
            ApiKeyLayer::new(store.clone()).with_transport(Transport::behind(
                TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap().with_x_forwarded_for(),
            )),
            send(proxy, &[("x-forwarded-proto", "http")]),
        ),
        (
            ApiKeyLayer::new(store.clone()).with_transport(Transport::behind(
                TrustedProxies::forwarded(["10.0.0.0/8"]).unwrap(),
            )),
            send(proxy, &[("forwarded", "for=192.0.2.1;proto=http")]),
        ),
    ] {
        assert_eq!(told_of(layer, request).await, Exposure::InTheClear);
    }
    let id = manager.list(&account("a")).await.unwrap()[0].id.clone();
    told_of(behind(), send(proxy, &[("x-forwarded-proto", "http")])).await;
    is_gone(&manager, &id).await;
}

/// Still says what it said before.
#[derive(Default)]
struct Stale {
    good: MemoryStore,
    old: Option<Arc<KeyRecord>>,
}

#[async_trait::async_trait]
impl Faulty for Stale {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        match &self.old {
            Some(old) if old.fingerprint() == fingerprint => {
                Lookup::ready(Ok(Some(Entry::Live(Arc::clone(old)))))
            }
            _ => self.good.find(fingerprint),
        }
    }
}

/// The old digest of a key that has just been given one of today, as a memory still has it.
#[tokio::test]
async fn a_key_that_was_given_another_digest_is_revoked_also_where_a_memory_is_behind() {
    let store = MemoryStore::new();
    let (manager, _) = with_key(store.clone()).await;
    let issued = manager.create(&account("a"), named("x")).await.unwrap();
    let (old, _) = issued.into_parts();
    let stale = Broken(Stale { good: store.clone(), old: Some(Arc::clone(&old)) });
    let written =
        store.rehash(&old.account, &old.id, old.fingerprint(), digest("peppered"), old.created_at);
    assert!(matches!(written.await.unwrap(), Written::Done(_)));
    let revoke = RevokeExposed::by(KeyManager::new(stale, "acme".parse().unwrap()));
    revoke.hear(&KeyEvent::Exposed { key: &old, exposure: Exposure::InTheClear });
    is_gone(&manager, &old.id).await;
}
