//! The layer's answers to what a service may ask of it: notices of a rotation and of an end, scopes for a
//! part, addresses, limits, the shadow mode. Through the layer, in this process.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::limits::{AttemptLimit, FailureBudget, Quota, RateLimit};
use tower_api_key::middleware::{ProblemDetails, ResponseBody, require_scope};
use tower_api_key::{
    ApiKeyLayer, Connection, Entry, Fingerprint, Identity, KeyEvent, KeyManager, KeyStore, Lookup,
    ManageError, ManualClock, MemoryStore, NewKey, Rejection, RejectionKind, Transport,
    TrustedProxies, Usage, UsageSettings,
};

use crate::support::{Log, account, named, soon, text, time};

const DAY: Duration = Duration::from_hours(24);

/// A store that is asked and answers later, as one over a network.
#[derive(Clone)]
struct Slow(MemoryStore);

impl KeyStore for Slow {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let store = self.0.clone();
        Lookup::waiting(async move {
            tokio::task::yield_now().await;
            store.find(fingerprint).await
        })
    }
}

struct Service {
    store: MemoryStore,
    manager: KeyManager,
    clock: ManualClock,
}

impl Service {
    fn new() -> Self {
        let (store, clock) = (MemoryStore::new(), ManualClock::at(time(0)));
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        Self { store, manager: manager.with_clock(clock.clone()), clock }
    }

    async fn key(&self, new: NewKey) -> String {
        text(self.manager.create(&account("a"), new).await.unwrap())
    }

    /// The layer over a store that answers at once, and over one that does not.
    fn layers(&self) -> [ApiKeyLayer; 2] {
        let layers =
            [ApiKeyLayer::new(self.store.clone()), ApiKeyLayer::new(Slow(self.store.clone()))];
        layers.map(|layer| {
            let open = Transport::dangerously_assume_https();
            layer.with_transport(open).with_clock(self.clock.clone())
        })
    }
}

type Answer = Response<ResponseBody<Bytes>>;

/// Says who calls, and with which headers.
async fn who(request: Request<()>) -> Result<Response<Bytes>, Infallible> {
    let caller = request.extensions().get::<Identity>();
    let caller = caller.map_or("nobody", |caller| caller.account().as_str()).to_owned();
    let key = if request.headers().contains_key("api-key") { " with a key" } else { "" };
    Ok(Response::new(Bytes::from(caller + key)))
}

async fn call(layer: &ApiKeyLayer, request: Request<()>) -> Answer {
    soon(layer.layer(service_fn(who)).oneshot(request)).await.unwrap()
}

fn with(key: &str) -> Request<()> {
    let mut request = Request::new(());
    request.headers_mut().insert("api-key", HeaderValue::from_str(key).unwrap());
    request
}

/// As a trusted proxy hands a request on that came from there.
fn from(address: &str, key: &str) -> Request<()> {
    let mut request = with(key);
    request.extensions_mut().insert(Connection::plain(([10, 1, 2, 3], 4711).into()));
    let headers = request.headers_mut();
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    headers.insert("x-forwarded-for", HeaderValue::from_str(address).unwrap());
    request
}

fn behind_a_proxy(layer: ApiKeyLayer) -> ApiKeyLayer {
    let proxies = TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap().with_x_forwarded_for();
    layer.with_transport(Transport::behind(proxies))
}

fn header<'a, B>(answer: &'a Response<B>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

fn kind(answer: &Answer) -> Option<RejectionKind> {
    answer.extensions().get::<Rejection>().map(Rejection::kind)
}

fn body(answer: Answer) -> String {
    let bytes = answer.into_body().into_inner().unwrap_or_else(|bytes| bytes);
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn in_a_minute(requests: u32) -> Quota {
    Quota::new(NonZeroU32::new(requests).unwrap(), Duration::from_mins(1))
}

#[tokio::test]
async fn a_rotated_key_tells_its_caller_until_its_grace_is_over() {
    let service = Service::new();
    let issued = service.manager.create(&account("a"), named("Old")).await.unwrap();
    let id = issued.record().id.clone();
    let old = text(issued);
    service.clock.advance(Duration::from_hours(1));
    let new = text(service.manager.rotate(&account("a"), &id, DAY).await.unwrap());
    for layer in service.layers() {
        let answer = call(&layer, with(&old)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "deprecation"), Some("@1800003600"));
        assert_eq!(header(&answer, "sunset"), Some("Sat, 16 Jan 2027 09:00:00 GMT"));
        let answer = call(&layer, with(&new)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!((header(&answer, "deprecation"), header(&answer, "sunset")), (None, None));
    }
    service.clock.advance(DAY);
    for layer in service.layers() {
        let answer = call(&layer, with(&old)).await;
        assert_eq!(answer.status(), 401);
        assert_eq!((header(&answer, "deprecation"), header(&answer, "sunset")), (None, None));
        assert_eq!(call(&layer, with(&new)).await.status(), 200);
    }
}

#[tokio::test]
async fn a_rotation_can_be_finished_and_says_when_the_old_key_was_last_used() {
    let service = Service::new();
    let owner = account("a");
    let settings = UsageSettings::default().with_clock(service.clock.clone());
    let usage = Usage::collect(service.store.clone(), settings);
    let issued = service.manager.create(&owner, named("Old")).await.unwrap();
    let id = issued.record().id.clone();
    let old = text(issued);
    let unfinished = service.manager.finish_rotation(&owner, &id).await;
    assert!(matches!(unfinished, Err(ManageError::NotRotated)), "{unfinished:?}");

    let new = text(service.manager.rotate(&owner, &id, DAY).await.unwrap());
    service.clock.advance(Duration::from_mins(7));
    let [layer, _] = service.layers();
    let layer = layer.with_usage(&usage);
    assert_eq!(call(&layer, with(&old)).await.status(), 200);
    usage.flush().await;
    let record = service.manager.get(&owner, &id).await.unwrap();
    assert_eq!(record.last_used_at, Some(time(7 * 60)));
    assert_eq!(record.replaced_at, Some(time(0)));

    let other = service.manager.finish_rotation(&account("b"), &id).await;
    assert!(matches!(other, Err(ManageError::NotFound)), "{other:?}");
    service.manager.finish_rotation(&owner, &id).await.unwrap();
    let again = service.manager.finish_rotation(&owner, &id).await;
    assert!(matches!(again, Err(ManageError::NotFound)), "{again:?}");
    assert_eq!(call(&layer, with(&old)).await.status(), 401);
    assert_eq!(call(&layer, with(&new)).await.status(), 200);
}

#[tokio::test]
async fn a_grace_of_zero_ends_the_old_key_at_once() {
    let service = Service::new();
    let issued = service.manager.create(&account("a"), named("Leaked")).await.unwrap();
    let id = issued.record().id.clone();
    let old = text(issued);
    let new = text(service.manager.rotate(&account("a"), &id, Duration::ZERO).await.unwrap());
    for layer in service.layers() {
        assert_eq!(kind(&call(&layer, with(&old)).await), Some(RejectionKind::RotatedKey));
        let answer = call(&layer, with(&new)).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "deprecation")), (200, None));
    }
}

#[tokio::test]
async fn a_key_that_ends_soon_says_so_where_that_was_asked_for() {
    let service = Service::new();
    let key = service.key(named("A").with_expires_at(time(30 * 86_400))).await;
    let lasting = service.key(named("B")).await;
    for layer in service.layers() {
        let told = layer.clone().with_expiry_header(7 * DAY);
        assert_eq!(header(&call(&told, with(&key)).await, "api-key-expires"), None);
        assert_eq!(header(&call(&told, with(&lasting)).await, "api-key-expires"), None);
    }
    service.clock.advance(23 * DAY);
    for layer in service.layers() {
        assert_eq!(header(&call(&layer, with(&key)).await, "api-key-expires"), None);
        let told = layer.with_expiry_header(7 * DAY);
        let answer = call(&told, with(&key)).await;
        assert_eq!(header(&answer, "api-key-expires"), Some("Sun, 14 Feb 2027 08:00:00 GMT"));
        assert_eq!(header(&answer, "sunset"), None, "nothing replaces it");
    }
}

#[tokio::test]
async fn keys_that_end_soon_and_keys_that_nobody_uses_are_listed() {
    let service = Service::new();
    let owner = account("a");
    for (name, day) in [("Late", 60), ("Soon", 5), ("Sooner", 3), ("Gone", 1)] {
        service.key(named(name).with_expires_at(time(day * 86_400))).await;
    }
    let used = service.key(named("Used")).await;
    service.clock.advance(2 * DAY);
    let names = |keys: Vec<Arc<tower_api_key::KeyRecord>>| {
        keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>()
    };
    let expiring = async |within| names(service.manager.expiring(&owner, within).await.unwrap());
    assert_eq!(expiring(3 * DAY).await, ["Sooner", "Soon"]);
    assert_eq!(expiring(Duration::from_millis(3 * 86_400_000 - 1)).await, ["Sooner"]);
    assert_eq!(expiring(Duration::MAX).await, ["Sooner", "Soon", "Late"]);
    assert!(service.manager.expiring(&account("b"), Duration::MAX).await.unwrap().is_empty());

    let settings = UsageSettings::default().with_clock(service.clock.clone());
    let usage = Usage::collect(service.store.clone(), settings);
    let [layer, _] = service.layers();
    assert_eq!(call(&layer.with_usage(&usage), with(&used)).await.status(), 200);
    usage.flush().await;
    let idle = async |time| {
        let mut idle = names(service.manager.idle(&owner, time).await.unwrap());
        idle.sort();
        idle
    };
    assert_eq!(idle(2 * DAY).await, ["Late", "Soon", "Sooner"]);
    assert!(idle(2 * DAY + Duration::from_millis(1)).await.is_empty());
    assert_eq!(idle(Duration::ZERO).await, ["Late", "Soon", "Sooner", "Used"]);
}

#[tokio::test]
async fn a_part_of_a_service_wants_a_scope() {
    let service = Service::new();
    let reader = service.key(named("A").with_scopes("bookings:read".parse().unwrap())).await;
    let others =
        ["", "bookings", "bookings:*", "bookings:rea", "bookings:reads", "BOOKINGS:READ", "*"];
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let part =
        require_scope("bookings:read".parse().unwrap()).with_events(move |event: &KeyEvent<'_>| {
            if let KeyEvent::Refused { rejection } = event {
                listener.lock().unwrap().push((rejection.kind(), rejection.key_name().cloned()));
            }
        });
    let ask = async |layer: &ApiKeyLayer, request| {
        let inside = part.layer(service_fn(who));
        let service = layer.layer(inside);
        soon(service.oneshot(request)).await.unwrap()
    };
    for layer in service.layers() {
        assert_eq!(ask(&layer, with(&reader)).await.status(), 200);
        assert_eq!(ask(&layer, Request::new(())).await.status(), 401);
    }
    assert!(heard.lock().unwrap().is_empty(), "the outer layer refuses who has no key");
    let mut answers = Vec::new();
    for scopes in others {
        let key = service.key(named("B").with_scopes(scopes.parse().unwrap())).await;
        for layer in service.layers() {
            let answer = ask(&layer, with(&key)).await;
            assert_eq!(answer.status(), 403, "{scopes}");
            assert_eq!(header(&answer, "www-authenticate"), None);
            assert_eq!(header(&answer, "cache-control"), Some("no-store"));
            let rejection = answer.extensions().get::<Rejection>().unwrap();
            assert_eq!(rejection.kind(), RejectionKind::MissingScope);
            let answer = answer.into_body().into_inner().unwrap().into_inner().unwrap_err();
            answers.push(answer);
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(
        answers[0],
        r#"{"type":"authentication_error","message":"This API key does not allow this call."}"#
    );
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), others.len() * 2);
    let expected = (RejectionKind::MissingScope, Some("B".parse().unwrap()));
    assert!(heard.iter().all(|heard| *heard == expected));
}

#[tokio::test]
async fn a_call_without_the_scope_is_logged_with_the_key_s_name() {
    let service = Service::new();
    let key = service.key(named("Reader")).await;
    let asking = || {
        let mut request = with(&key);
        *request.uri_mut() = "/v2/bookings?token=hunter2".parse().unwrap();
        request
    };
    let (log, _guard) = Log::capture();
    for layer in service.layers() {
        let whole = layer.clone().with_required_scope("bookings:write".parse().unwrap());
        assert_eq!(call(&whole, asking()).await.status(), 403);
        let part = require_scope("bookings:write".parse().unwrap()).layer(service_fn(who));
        let answer = soon(layer.layer(part).oneshot(asking())).await.unwrap();
        assert_eq!(answer.status(), 403);
    }
    let events = log.lines("request refused");
    assert_eq!(events.len(), 4, "{}", log.text());
    for event in events {
        assert!(event.contains("the key lacks the scope") && event.contains("Reader"), "{event}");
        assert!(event.contains(r#"method=GET path="/v2/bookings""#), "{event}");
        assert!(!event.contains(&key), "{event}");
    }
}

#[tokio::test]
async fn a_scope_where_no_layer_is_in_front_refuses_everybody_and_says_why() {
    let (log, _guard) = Log::capture();
    let part = require_scope("a".parse().unwrap()).with_renderer(ProblemDetails);
    let answer = part.layer(service_fn(who)).oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(log.lines("no ApiKeyLayer is in front").len(), 1);
}

#[tokio::test]
async fn a_key_for_some_addresses_is_refused_from_all_others_like_an_unknown_one() {
    let service = Service::new();
    let key = service
        .key(named("Office").with_sources("203.0.113.0/24 2001:db8::/48".parse().unwrap()))
        .await;
    let settings = UsageSettings::default().with_clock(service.clock.clone());
    let usage = Usage::collect(service.store.clone(), settings);
    for layer in service.layers() {
        let layer = behind_a_proxy(layer.with_usage(&usage));
        for inside in ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8::7"] {
            assert_eq!(call(&layer, from(inside, &key)).await.status(), 200, "{inside}");
        }
        let unknown = call(&layer, from("203.0.113.9", &key.replace("acme", "acmf"))).await;
        let outside = ["203.0.114.9", "2001:db9::7", "unknown"].map(|from| self::from(from, &key));
        let unknown = (unknown.headers().clone(), body(unknown));
        for request in outside {
            let answer = call(&layer, request).await;
            assert_eq!(kind(&answer), Some(RejectionKind::WrongSource));
            assert_eq!((answer.headers().clone(), body(answer)), unknown);
        }
    }
    usage.flush().await;
    let days = service.manager.usage(&account("a"), 1).await.unwrap();
    assert_eq!((days[0].days[0].requests, days[0].days[0].refusals), (6, 6));
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_the_one_that_it_saw() {
    let service = Service::new();
    let key = service.key(named("Office").with_sources("203.0.113.0/24".parse().unwrap())).await;
    for layer in service.layers() {
        let layer = behind_a_proxy(layer);
        let ask = async |seen: &str| {
            let request = from(seen, &key);
            call(&layer, request).await.status().as_u16()
        };
        assert_eq!(ask("203.0.113.9").await, 200);
        assert_eq!(ask("198.51.100.1, 203.0.113.9").await, 200);
        assert_eq!(ask("203.0.113.9, 198.51.100.1").await, 401, "the client's own word");
        assert_eq!(ask("nonsense").await, 401);
    }
}

#[tokio::test]
async fn a_proxy_s_own_address_is_nobody_s() {
    let service = Service::new();
    let sources = "10.0.0.0/8 203.0.113.0/24".parse().unwrap();
    let key = service.key(named("Office").with_sources(sources)).await;
    for layer in service.layers() {
        let proxies = TrustedProxies::forwarded(["10.0.0.0/8"]).unwrap();
        let layer = layer.with_transport(Transport::behind(proxies));
        for (address, status) in [("203.0.113.9", 200), ("10.0.0.2", 401)] {
            let mut request = with(&key);
            let forwarded = format!("for={address};proto=https");
            request.headers_mut().insert("forwarded", forwarded.parse().unwrap());
            request.extensions_mut().insert(Connection::plain(([10, 1, 2, 3], 4711).into()));
            assert_eq!(call(&layer, request).await.status(), status, "{address}");
        }
    }
}

/// Every kind of refusal says where it came from; what only passes in shadow mode does, too.
#[tokio::test]
async fn a_refusal_is_logged_with_its_address_its_method_and_its_path_and_never_the_query() {
    let service = Service::new();
    let key = service.key(named("Reader")).await;
    let asking = |from: &str, key: &str| {
        let mut request = self::from(from, key);
        *request.method_mut() = http::Method::DELETE;
        *request.uri_mut() = "/v2/bookings/7?token=hunter2".parse().unwrap();
        request
    };
    let call_part = r#"method=DELETE path="/v2/bookings/7""#;
    for layer in service.layers() {
        let layer = behind_a_proxy(layer);
        let scope = layer.clone().with_required_scope("bookings:write".parse().unwrap());
        let shadow = layer.clone().dangerously_in_shadow_mode();
        let (log, _guard) = Log::capture();
        assert_eq!(call(&layer, asking("203.0.113.9", "guess")).await.status(), 401);
        assert_eq!(call(&scope, asking("203.0.113.9", &key)).await.status(), 403);
        assert_eq!(call(&shadow, asking("203.0.113.9", "guess")).await.status(), 200);
        let events = [log.lines("request refused"), log.lines("would be refused")].concat();
        assert_eq!(events.len(), 3, "{}", log.text());
        for event in events {
            assert!(event.contains("client=203.0.113.9") && event.contains(call_part), "{event}");
        }
        // Where the address is not known, none is said.
        assert_eq!(call(&layer, asking("nonsense", "guess")).await.status(), 401);
        let unknown = log.lines("request refused").pop().unwrap();
        assert!(!unknown.contains("client=") && unknown.contains(call_part), "{unknown}");
        assert!(!log.text().contains("hunter2"), "{}", log.text());
    }
}

#[tokio::test]
async fn nobody_writes_into_the_log_by_a_path_or_a_method() {
    let service = Service::new();
    let key = service.key(named("Reader")).await;
    let [layer, _] = service.layers();
    let endless = format!("/{}", "a/".repeat(10_000));
    let by_mistake = format!("/v2/{key}/test");
    for path in ["/\"x\u{202e}client=1.2.3.4", &endless, &by_mistake] {
        let (log, _guard) = Log::capture();
        let mut request = with("guess");
        *request.method_mut() = http::Method::from_bytes(&[b'M'; 5_000]).unwrap();
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(call(&layer, request).await.status(), 401);
        let events = log.lines("request refused");
        assert_eq!(events.len(), 1);
        assert!(events[0].contains("path=\"/") && events[0].len() < 1_000, "{}", events[0]);
        assert!(!events[0].contains('\u{202e}') && !events[0].contains(r#""/"x"#), "{}", events[0]);
        assert!(!events[0].contains(&key), "{}", events[0]);
    }
}

#[tokio::test]
async fn a_key_is_limited_and_its_caller_is_told() {
    let service = Service::new();
    let (one, other) = (service.key(named("A")).await, service.key(named("B")).await);
    let gold = service.key(named("C").with_scopes("tier:gold".parse().unwrap())).await;
    let settings = UsageSettings::default().with_clock(service.clock.clone());
    for layer in service.layers() {
        let usage = Usage::collect(service.store.clone(), settings.clone());
        let limit = RateLimit::new(in_a_minute(2));
        let limit = limit.with_quota_for("tier:gold".parse().unwrap(), in_a_minute(5));
        let layer = layer.with_rate_limit(limit).with_usage(&usage);
        let told = layer.clone().with_rate_limit_headers();
        let answer = call(&told, with(&one)).await;
        assert_eq!(header(&answer, "ratelimit"), Some(r#""key";r=1;t=30"#));
        assert_eq!(header(&answer, "ratelimit-policy"), Some(r#""key";q=2;w=60"#));
        let answer = call(&layer, with(&one)).await;
        assert_eq!((answer.status().as_u16(), header(&answer, "ratelimit")), (200, None));

        let answer = call(&layer, with(&one)).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(header(&answer, "ratelimit"), None);
        let wait: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&wait), "{wait}");
        let answer = call(&told, with(&one)).await;
        assert_eq!(header(&answer, "ratelimit-policy"), Some(r#""key";q=2;w=60"#));
        assert!(header(&answer, "ratelimit").unwrap().starts_with(r#""key";r=0;t="#));
        assert_eq!(
            answer.extensions().get::<Rejection>().unwrap().key_name().unwrap().as_str(),
            "A"
        );
        assert_eq!(
            body(answer),
            r#"{"type":"rate_limit_error","message":"Too many requests. Try again later."}"#
        );
        assert_eq!(call(&layer, with(&other)).await.status(), 200);
        for _ in 0..5 {
            assert_eq!(call(&layer, with(&gold)).await.status(), 200);
        }
        assert_eq!(call(&layer, with(&gold)).await.status(), 429);
        usage.close().await;
    }
    let usage = service.manager.usage(&account("a"), 1).await.unwrap();
    let mut counts: Vec<_> = usage
        .iter()
        .map(|key| (key.name.to_string(), key.days[0].requests, key.days[0].refusals))
        .collect();
    counts.sort();
    let expected = [("A", 4, 4), ("B", 2, 0), ("C", 10, 2)];
    assert_eq!(
        counts,
        expected.map(|(name, requests, refusals)| (name.to_owned(), requests, refusals))
    );
}

/// Counts what it is asked for.
#[derive(Clone)]
struct Counting(MemoryStore, Arc<Mutex<u32>>);

impl KeyStore for Counting {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        *self.1.lock().unwrap() += 1;
        self.0.find(fingerprint)
    }
}

#[tokio::test]
async fn an_address_that_guesses_is_not_listened_to_and_costs_no_lookup() {
    let service = Service::new();
    let key = service.key(named("A")).await;
    let asked = Arc::new(Mutex::new(0));
    let store = Counting(service.store.clone(), Arc::clone(&asked));
    let layer = behind_a_proxy(ApiKeyLayer::new(store))
        .with_failure_budget(FailureBudget::new(in_a_minute(3)));
    let wrong = key.replace("acme", "acmf");
    assert_eq!(call(&layer, from("192.0.2.1", &key)).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(
            kind(&call(&layer, from("192.0.2.1", &wrong)).await),
            Some(RejectionKind::WrongChecksum)
        );
    }
    let before = *asked.lock().unwrap();
    for key in [&wrong, &key] {
        let answer = call(&layer, from("192.0.2.1", key)).await;
        assert_eq!(kind(&answer), Some(RejectionKind::TooManyFailures));
        assert_eq!(answer.status(), 429);
        let wait: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
        assert_eq!(header(&answer, "ratelimit"), None);
    }
    assert_eq!(*asked.lock().unwrap(), before, "no lookup");
    assert_eq!(call(&layer, from("192.0.2.2", &key)).await.status(), 200);
    for _ in 0..5 {
        let from_nobody_knows_where = from("unknown", &wrong);
        assert_eq!(call(&layer, from_nobody_knows_where).await.status(), 401);
    }
    // What stands in front of a service that vouches for it is nobody's address.
    let vouched = ApiKeyLayer::new(service.store.clone())
        .with_transport(Transport::dangerously_assume_https())
        .with_failure_budget(FailureBudget::new(in_a_minute(1)));
    for _ in 0..3 {
        assert_eq!(call(&vouched, from("192.0.2.1", &wrong)).await.status(), 401);
    }
}

#[tokio::test]
async fn what_says_nothing_of_a_guess_uses_up_no_budget() {
    struct Heard(Arc<Mutex<u32>>);
    impl AttemptLimit for Heard {
        fn may_try(&self, _: std::net::IpAddr) -> Result<(), Duration> {
            Ok(())
        }
        fn failed(&self, _: std::net::IpAddr) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let service = Service::new();
    let key = service.key(named("A")).await;
    let failed = Arc::new(Mutex::new(0));
    for layer in service.layers() {
        let layer = behind_a_proxy(layer)
            .with_failure_budget(Heard(Arc::clone(&failed)))
            .with_required_scope("a".parse().unwrap());
        let mut without = from("192.0.2.1", &key);
        without.headers_mut().remove("api-key");
        assert_eq!(call(&layer, without).await.status(), 401);
        assert_eq!(call(&layer, from("192.0.2.1", &key)).await.status(), 403);
    }
    let down = ApiKeyLayer::new(Down).with_failure_budget(Heard(Arc::clone(&failed)));
    let down = behind_a_proxy(down);
    assert_eq!(call(&down, from("192.0.2.1", &key)).await.status(), 503);
    let plain =
        ApiKeyLayer::new(service.store.clone()).with_failure_budget(Heard(Arc::clone(&failed)));
    assert_eq!(call(&plain, from("192.0.2.1", &key)).await.status(), 401);
    assert_eq!(*failed.lock().unwrap(), 0);
    for layer in service.layers() {
        let layer = behind_a_proxy(layer).with_failure_budget(Heard(Arc::clone(&failed)));
        assert_eq!(call(&layer, from("192.0.2.1", "nonsense")).await.status(), 401);
    }
    assert_eq!(*failed.lock().unwrap(), 2);
}

struct Down;

impl KeyStore for Down {
    fn find(&self, _: Fingerprint) -> Lookup {
        let broken = tower_api_key::StoreError::unavailable("test", "down");
        Lookup::ready(Err::<Option<Entry>, _>(broken))
    }
}

#[tokio::test]
async fn in_shadow_mode_nothing_is_refused_and_everything_is_said() {
    let service = Service::new();
    let key = service.key(named("A")).await;
    let deleted = service.manager.create(&account("a"), named("B")).await.unwrap();
    let id = deleted.record().id.clone();
    let deleted = text(deleted);
    service.manager.delete(&account("a"), &id).await.unwrap();
    let (log, _guard) = Log::capture();
    let heard = Arc::new(Mutex::new(Vec::new()));
    for layer in [Down.layered(), service.layers()[0].clone(), service.layers()[1].clone()] {
        let listener = Arc::clone(&heard);
        let layer = layer
            .with_clock(service.clock.clone())
            .dangerously_in_shadow_mode()
            .with_events(move |event: &KeyEvent<'_>| match event {
                KeyEvent::WouldRefuse { rejection } => {
                    listener.lock().unwrap().push(rejection.kind());
                }
                event => panic!("{event:?}"),
            });
        for (request, says) in [
            (Request::new(()), "nobody"),
            (with("nonsense"), "nobody with a key"),
            (with(&deleted), "nobody with a key"),
        ] {
            let answer = call(&layer, request).await;
            assert_eq!((answer.status().as_u16(), kind(&answer)), (200, None));
            assert_eq!(body(answer), says);
        }
        let mut two = with(&key);
        two.headers_mut().append("api-key", HeaderValue::from_static("another"));
        two.headers_mut().insert("x-own", HeaderValue::from_static("stays"));
        let untouched = service_fn(async |request: Request<()>| {
            assert_eq!(request.headers().get_all("api-key").iter().count(), 2);
            assert_eq!(request.headers()["x-own"], "stays");
            Ok::<_, Infallible>(Response::new(Bytes::new()))
        });
        assert_eq!(layer.layer(untouched).oneshot(two).await.unwrap().status(), 200);
    }
    let [layer, _] = service.layers();
    let answer = call(&layer.dangerously_in_shadow_mode(), with(&key)).await;
    assert_eq!(body(answer), "a", "who has a key is known by it, and the key leaves the request");

    let heard = heard.lock().unwrap();
    let of_store = [
        RejectionKind::MissingKey,
        RejectionKind::WrongChecksum,
        RejectionKind::DeletedKey,
        RejectionKind::AmbiguousKey,
    ];
    let of_none = [
        RejectionKind::MissingKey,
        RejectionKind::WrongChecksum,
        RejectionKind::StoreFailed,
        RejectionKind::AmbiguousKey,
    ];
    assert_eq!(*heard, [of_none, of_store, of_store].concat());
    assert_eq!(log.lines("SHADOW MODE").len(), 8, "{}", log.text());
    assert_eq!(log.lines("request would be refused").len(), 12, "{}", log.text());
    assert!(!log.text().contains(&key) && !log.text().contains(&deleted));
}

#[tokio::test]
async fn shadow_mode_is_loud_once_a_minute() {
    let service = Service::new();
    let (log, _guard) = Log::capture();
    let [layer, _] = service.layers();
    let layer = layer.dangerously_in_shadow_mode();
    let reminders = || log.lines("since this was said last").len();
    for _ in 0..3 {
        call(&layer, Request::new(())).await;
    }
    assert_eq!(reminders(), 1);
    service.clock.advance(Duration::from_secs(59));
    call(&layer, Request::new(())).await;
    assert_eq!(reminders(), 1);
    service.clock.advance(Duration::from_secs(1));
    call(&layer, Request::new(())).await;
    assert_eq!(reminders(), 2);
    assert!(log.lines("since this was said last")[1].contains("passed=4"), "{}", log.text());
}

impl Down {
    fn layered(self) -> ApiKeyLayer {
        ApiKeyLayer::new(self).with_transport(Transport::dangerously_assume_https())
    }
}

#[tokio::test]
async fn in_shadow_mode_a_scope_refuses_nothing_either() {
    let service = Service::new();
    let key = service.key(named("A")).await;
    let heard = Arc::new(Mutex::new(0));
    for layer in service.layers() {
        let listener = Arc::clone(&heard);
        let part = require_scope("a".parse().unwrap()).with_events(move |event: &KeyEvent<'_>| {
            assert!(matches!(event, KeyEvent::WouldRefuse { .. }), "{event:?}");
            *listener.lock().unwrap() += 1;
        });
        let service = layer.dangerously_in_shadow_mode().layer(part.layer(service_fn(who)));
        for request in [Request::new(()), with("nonsense"), with(&key)] {
            assert_eq!(soon(service.clone().oneshot(request)).await.unwrap().status(), 200);
        }
    }
    assert_eq!(*heard.lock().unwrap(), 2, "of the key that is valid");
}

/// Such as a new store that is tried out in front of the one that counts.
#[tokio::test]
async fn a_layer_in_shadow_around_one_that_refuses_takes_nothing_from_it() {
    let service = Service::new();
    let key = service.key(named("A")).await;
    for layer in service.layers() {
        let elsewhere = ApiKeyLayer::new(MemoryStore::new());
        for around in [elsewhere, layer.clone().with_key_kept()] {
            let part = require_scope("a".parse().unwrap()).layer(service_fn(who));
            let inner = layer.clone().layer(part);
            let service = around.dangerously_in_shadow_mode().layer(inner);
            for (request, status) in [(with("nonsense"), 401), (with(&key), 403)] {
                let answer = soon(service.clone().oneshot(request)).await.unwrap();
                assert_eq!(answer.status(), status);
            }
        }
    }
}

/// A line in the log takes longer to write than all that tells one reason from another.
#[tokio::test]
async fn every_reason_that_depends_on_the_key_is_logged_at_one_level() {
    let service = Service::new();
    let key = async |new| service.key(new).await;
    let soon = time(0) + Duration::from_secs(1);
    let expired = key(named("Expired").with_expires_at(soon)).await;
    let elsewhere = key(named("Bound").with_sources("203.0.113.0/24".parse().unwrap())).await;
    let deleted = key(named("Deleted")).await;
    for record in service.manager.list(&account("a")).await.unwrap() {
        if record.name.as_str() == "Deleted" {
            service.manager.delete(&account("a"), &record.id).await.unwrap();
        }
    }
    service.clock.advance(Duration::from_secs(2));
    let (log, _guard) = Log::capture();
    for layer in service.layers() {
        for text in ["nonsense", &"x".repeat(300), &expired, &elsewhere, &deleted] {
            assert_eq!(call(&layer, with(text)).await.status(), 401);
        }
    }
    let events = log.lines("request refused");
    assert_eq!(events.len(), 10);
    assert!(events.iter().all(|event| event.contains("INFO")), "{events:?}");
}
