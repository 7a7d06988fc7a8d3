//! The use of keys, from the request to what the manager shows.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_api_key::{
    AgentHash, ApiKeyLayer, Connection, KeyEvent, KeyManager, KeyRecord, KeyRegistry, ManualClock,
    MemoryStore, NewKey, SqliteStore, Transport, TrustedProxies, Usage, UsageSettings, Use,
};

use crate::contract_broken::faulty::{Broken, Faulty};
use crate::servers::folder::Folder;
use crate::support::{Log, account, named, soon, text, time};

const OWNER: &str = "admin@example.com";

struct Bench {
    clock: ManualClock,
    manager: KeyManager,
    usage: Usage,
    layer: ApiKeyLayer,
    /// For those who go on until then.
    is_over: AtomicBool,
}

impl Bench {
    fn over(store: &(impl KeyRegistry + Clone)) -> Self {
        Self::with(store, UsageSettings::default().with_interval(Duration::from_hours(1)))
    }

    fn with(store: &(impl KeyRegistry + Clone), settings: UsageSettings) -> Self {
        let clock = ManualClock::at(time(0));
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        let manager = manager.with_clock(clock.clone());
        let usage = Usage::collect(store.clone(), settings.with_clock(clock.clone()));
        let layer = ApiKeyLayer::new(store.clone())
            .with_clock(clock.clone())
            .with_transport(Transport::behind(
                TrustedProxies::x_forwarded_proto(["10.0.0.0/8"]).unwrap().with_x_forwarded_for(),
            ))
            .with_usage(&usage);
        Self { clock, manager, usage, layer, is_over: AtomicBool::new(false) }
    }

    async fn key(&self, new: NewKey) -> (KeyRecord, String) {
        let issued = self.manager.create(&account(OWNER), new).await.unwrap();
        (issued.record().clone(), text(issued))
    }

    /// The status of a request with a key.
    async fn send(&self, key: &str, from: &str, agent: &str) -> u16 {
        let mut request = Request::builder().header("api-key", key).header("user-agent", agent);
        request = request.header("x-forwarded-proto", "https").header("x-forwarded-for", from);
        let proxy = SocketAddr::from(([10, 0, 0, 1], 4711));
        request.extensions_mut().unwrap().insert(Connection::plain(proxy));
        send(&self.layer, request.body(()).unwrap()).await
    }

    /// Day by day: the day's number after the first, requests and refusals.
    async fn days(&self, key: &KeyRecord) -> Vec<(u32, u64, u64)> {
        let first = tower_api_key::store::Day::of(time(0)).number();
        let used = self.manager.usage(&account(OWNER), 30).await.unwrap();
        let used = used.into_iter().find(|used| used.key == key.id);
        let days = used.map(|used| used.days).unwrap_or_default();
        days.iter().map(|day| (day.day.number() - first, day.requests, day.refusals)).collect()
    }
}

async fn send(layer: &ApiKeyLayer, request: Request<()>) -> u16 {
    let inner = service_fn(async |_: Request<()>| Ok::<_, std::io::Error>(Response::new(())));
    let mut service = layer.layer(inner);
    service.ready().await.unwrap().call(request).await.unwrap().status().as_u16()
}

async fn everything_is_counted(store: impl KeyRegistry + Clone) {
    let bench = Bench::over(&store);
    let (key, text) = bench.key(named("Production CRM")).await;
    let (other, _) = bench.key(named("Staging")).await;
    let agent = |name: &str| Some(AgentHash::of(name.as_bytes()));
    for second in 1..=5 {
        bench.clock.set(time(second));
        assert_eq!(bench.send(&text, &format!("192.0.2.{second}"), "crm/1").await, 200);
    }
    assert_eq!(bench.days(&key).await, [], "nothing is written on the way of a request");
    bench.usage.flush().await;
    assert_eq!(bench.days(&key).await, [(0, 5, 0)]);
    let shown = bench.manager.get(&key.account, &key.id).await.unwrap();
    // What is known of an interval is its first request, where the store gives the same record again.
    let at = shown.last_used_at.unwrap();
    assert!((time(1)..=time(5)).contains(&at), "{at:?}");
    let second = at.duration_since(time(0)).unwrap().as_secs();
    assert_eq!(shown.last_used_from, format!("192.0.2.{second}").parse().ok());
    assert_eq!(shown.last_used_agent, agent("crm/1"));
    assert_eq!(bench.days(&other).await, []);

    bench.clock.set(time(86_400));
    assert_eq!(bench.send(&text, "::ffff:198.51.100.7", "crm/2").await, 200);
    bench.usage.flush().await;
    bench.usage.flush().await;
    assert_eq!(bench.days(&key).await, [(0, 5, 0), (1, 1, 0)], "and nothing twice");
    let shown = bench.manager.get(&key.account, &key.id).await.unwrap();
    assert_eq!(shown.last_used_at, Some(time(86_400)));
    assert_eq!(
        shown.last_used_from,
        Some(IpAddr::from([198, 51, 100, 7])),
        "an IPv4 address is one"
    );
    assert_eq!(shown.last_used_agent, agent("crm/2"));

    // Deleted: what comes now is refused, and put down to what the key was.
    assert_eq!(bench.send(&text, "192.0.2.1", "crm/2").await, 200);
    bench.manager.delete(&key.account, &key.id).await.unwrap();
    for _ in 0..3 {
        assert_eq!(bench.send(&text, "203.0.113.66", "stranger").await, 401);
    }
    bench.usage.flush().await;
    assert_eq!(bench.days(&key).await, [(0, 5, 0), (1, 2, 3)]);
    let used = bench.manager.usage(&account(OWNER), 30).await.unwrap();
    assert!(used[0].ended_at.is_some() && used[0].name == key.name);
    assert!(bench.manager.get(&key.account, &key.id).await.is_err(), "it is not back");
    assert!(bench.manager.usage(&account("b"), 30).await.unwrap().is_empty());

    // Expired.
    let (short, text) = bench.key(named("Trial").with_expires_at(time(86_500))).await;
    bench.clock.set(time(86_450));
    assert_eq!(bench.send(&text, "192.0.2.1", "crm/2").await, 200);
    bench.clock.set(time(86_500));
    for _ in 0..2 {
        assert_eq!(bench.send(&text, "192.0.2.1", "crm/2").await, 401);
    }
    bench.usage.flush().await;
    assert_eq!(bench.days(&short).await, [(1, 1, 2)]);
    let shown = bench.manager.get(&short.account, &short.id).await.unwrap();
    assert_eq!(shown.last_used_at, Some(time(86_450)), "an attempt is no use");
    assert_eq!(bench.send(&text, "192.0.2.1", "crm/2").await, 401);
    bench.usage.close().await;
    assert_eq!(bench.days(&short).await, [(1, 1, 3)]);
}

#[tokio::test]
async fn everything_is_counted_over_memory() {
    everything_is_counted(MemoryStore::new()).await;
}

/// A new record for every request: what each has counted is added up.
#[tokio::test]
async fn everything_is_counted_over_a_store_that_is_asked_each_time() {
    let folder = Folder::new();
    everything_is_counted(SqliteStore::open(folder.path().join("keys.db")).await.unwrap()).await;
}

/// Many threads and a writer that is never still: not one is lost, not one is counted twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_is_lost_or_counted_twice() {
    const EACH: u64 = 5_000;
    let bench = Arc::new(Bench::over(&MemoryStore::new()));
    let (key, text) = bench.key(named("Production CRM")).await;
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (bench, text) = (Arc::clone(&bench), text.clone());
            tokio::spawn(async move {
                for number in 0..EACH {
                    assert_eq!(bench.send(&text, "192.0.2.1", "x").await, 200);
                    if number % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    let (flushed, renaming) = (Arc::clone(&bench), Arc::clone(&bench));
    let writer = tokio::spawn(async move {
        while !flushed.is_over.load(Ordering::Relaxed) {
            flushed.usage.flush().await;
            tokio::task::yield_now().await;
        }
    });
    // And the record is replaced by another all the time.
    let renamer = tokio::spawn(async move {
        let mut number = 0;
        while !renaming.is_over.load(Ordering::Relaxed) {
            number += 1;
            let name = format!("Name {number}").parse().unwrap();
            let (owner, id) =
                (account(OWNER), renaming.manager.list(&account(OWNER)).await.unwrap());
            renaming.manager.rename(&owner, &id[0].id, name).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    for sender in senders {
        soon(sender).await.unwrap();
    }
    bench.is_over.store(true, Ordering::Relaxed);
    soon(renamer).await.unwrap();
    soon(writer).await.unwrap();
    bench.usage.flush().await;
    let counted: u64 = bench.days(&key).await.iter().map(|day| day.1).sum();
    assert_eq!(counted, 8 * EACH);
}

/// Counts what is written, and at times never answers.
#[derive(Default)]
struct Writes {
    good: MemoryStore,
    made: AtomicUsize,
    hang: AtomicBool,
}

#[async_trait::async_trait]
impl Faulty for Writes {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn mark_used(&self, uses: &[Use]) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if self.hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.good.mark_used(uses).await.unwrap();
    }
}

/// Also where the use could not be written, and the attempt came while it was kept.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_no_use() {
    let settings = UsageSettings::default().with_interval(Duration::from_hours(1));
    let store = Arc::new(Broken(Writes::default()));
    let bench = Bench::with(&store, settings);
    let (key, text) = bench.key(named("Trial").with_expires_at(time(100))).await;
    bench.clock.set(time(10));
    assert_eq!(bench.send(&text, "192.0.2.1", "crm/1").await, 200);
    store.0.hang.store(true, Ordering::Relaxed);
    let refuse = async || {
        bench.clock.set(time(110));
        for _ in 0..2 {
            assert_eq!(bench.send(&text, "203.0.113.66", "stranger").await, 401);
        }
    };
    let while_it_hangs = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        refuse().await;
    };
    tokio::join!(bench.usage.flush(), while_it_hangs);
    store.0.hang.store(false, Ordering::Relaxed);
    bench.usage.flush().await;
    assert_eq!(bench.days(&key).await, [(0, 1, 2)]);
    let shown = bench.manager.get(&key.account, &key.id).await.unwrap();
    assert_eq!(shown.last_used_at, Some(time(10)));
    assert_eq!(shown.last_used_from, "192.0.2.1".parse().ok());
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_uses_are_kept_for_so_many_keys() {
    let settings =
        UsageSettings::default().with_interval(Duration::from_hours(1)).with_most_keys(3);
    let store = Arc::new(Broken(Writes::default()));
    let bench = Bench::with(&store, settings);
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(bench.key(named(&format!("Key {number}"))).await);
    }
    store.0.hang.store(true, Ordering::Relaxed);
    for round in 0..3 {
        for (_, text) in &keys {
            assert_eq!(bench.send(text, "192.0.2.1", "x").await, 200, "round {round}");
        }
        bench.usage.flush().await;
    }
    store.0.hang.store(false, Ordering::Relaxed);
    bench.usage.flush().await;
    let mut counted = Vec::new();
    for (key, _) in &keys {
        counted.push(bench.days(key).await.iter().map(|day| day.1).sum::<u64>());
    }
    counted.sort_unstable();
    assert_eq!(counted, [0, 0, 3, 3, 3]);
    // Whoever had no room has, afterwards.
    for (_, text) in &keys[..3] {
        bench.send(text, "192.0.2.1", "x").await;
    }
    bench.usage.flush().await;
    let mut total = 0;
    for (key, _) in &keys {
        total += bench.days(key).await.iter().map(|day| day.1).sum::<u64>();
    }
    assert_eq!(total, 12);
}

/// At most one write in an interval, whatever is asked, and one at the end.
#[tokio::test(start_paused = true)]
async fn there_is_one_write_in_an_interval_and_one_at_the_end() {
    let store = Arc::new(Broken(Writes::default()));
    let bench = Bench::with(&store, UsageSettings::default());
    let (key, text) = bench.key(named("Production CRM")).await;
    for _ in 0..60 {
        for _ in 0..20 {
            assert_eq!(bench.send(&text, "192.0.2.1", "x").await, 200);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let made = store.0.made.load(Ordering::Relaxed);
    assert!((5..=6).contains(&made), "{made} in a minute");
    bench.send(&text, "192.0.2.1", "x").await;
    bench.usage.close().await;
    assert_eq!(bench.days(&key).await, [(0, 1_201, 0)]);
    let made = store.0.made.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(store.0.made.load(Ordering::Relaxed), made, "and none after that");
}

#[tokio::test]
async fn the_address_is_the_one_that_trusted_proxies_saw() {
    let store = MemoryStore::new();
    let bench = Bench::over(&store);
    let (key, text) = bench.key(named("Production CRM")).await;
    let by = |proxies| {
        ApiKeyLayer::new(store.clone())
            .with_transport(Transport::behind(proxies))
            .with_usage(&bench.usage)
    };
    let networks = ["10.0.0.0/8", "192.168.0.1"];
    let appending = by(TrustedProxies::x_forwarded_proto(networks).unwrap().with_x_forwarded_for());
    let setting = by(TrustedProxies::forwarded(networks).unwrap());
    // A proxy that nobody vouches for may pass on what the client wrote.
    let silent = by(TrustedProxies::x_forwarded_proto(networks).unwrap());
    let setting_both = by(TrustedProxies::forwarded(networks).unwrap().with_x_forwarded_for());
    let forwarded = |value: &'static str| vec![("forwarded", value)];
    let x = |values: &[&'static str]| {
        let mut headers = vec![("x-forwarded-proto", "https")];
        headers.extend(values.iter().map(|value| ("x-forwarded-for", *value)));
        headers
    };
    let both = vec![
        ("forwarded", "for=203.0.113.9;proto=https"),
        ("x-forwarded-for", "1.1.1.1, 198.51.100.7"),
    ];
    for (layer, headers, expected) in [
        (&appending, x(&[]), None),
        (&appending, x(&["192.168.0.1, 10.9.9.9"]), None),
        (&appending, x(&["203.0.113.9"]), Some("203.0.113.9")),
        (&appending, x(&["1.1.1.1, 203.0.113.9"]), Some("203.0.113.9")),
        (&appending, x(&["1.1.1.1", "203.0.113.9"]), Some("203.0.113.9")),
        (&appending, x(&["1.1.1.1, 203.0.113.9, 192.168.0.1"]), Some("203.0.113.9")),
        (&appending, x(&["1.1.1.1, 203.0.113.9", "192.168.0.1,10.9.9.9"]), Some("203.0.113.9")),
        (&appending, x(&["::ffff:203.0.113.9"]), Some("203.0.113.9")),
        (&appending, x(&["203.0.113.9:4711"]), Some("203.0.113.9")),
        (&appending, x(&["[2001:db8::7]:4711"]), Some("2001:db8::7")),
        (&appending, x(&["[2001:db8::7]"]), Some("2001:db8::7")),
        (&appending, x(&["1.1.1.1, unknown"]), None),
        (&appending, x(&["1.1.1.1,"]), None),
        (&setting, forwarded("proto=https"), None),
        (&setting, forwarded("for=203.0.113.9;proto=https"), Some("203.0.113.9")),
        (&setting, forwarded("proto=https;for=\"[2001:db8::7]:4711\""), Some("2001:db8::7")),
        (&setting, forwarded("for=_hidden;proto=https"), None),
        (&silent, x(&["203.0.113.9"]), None),
        (&setting_both, forwarded("for=203.0.113.9;proto=https"), None),
        (&setting_both, both, Some("198.51.100.7")),
    ] {
        let peer = SocketAddr::from(([10, 0, 0, 1], 4711));
        let mut request = Request::builder().header("api-key", &text);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        request.extensions_mut().unwrap().insert(Connection::plain(peer));
        assert_eq!(send(layer, request.body(()).unwrap()).await, 200, "{headers:?}");
        bench.clock.advance(Duration::from_secs(1));
        bench.usage.flush().await;
        let shown = bench.manager.get(&key.account, &key.id).await.unwrap();
        assert_eq!(shown.last_used_from, expected.map(|ip| ip.parse().unwrap()), "{headers:?}");
    }
}

/// A handler of events that notes their names.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

impl Noted {
    fn listener(&self) -> impl Fn(&KeyEvent<'_>) + Clone + Send + Sync + 'static {
        let noted = Arc::clone(&self.0);
        move |event: &KeyEvent<'_>| noted.lock().unwrap().push(event.name().to_owned())
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn every_event_is_told() {
    let (log, _guard) = Log::capture();
    let store = MemoryStore::new();
    let clock = ManualClock::at(time(0));
    let noted = Noted::default();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap())
        .with_clock(clock.clone())
        .with_events(noted.listener())
        .with_events(|_: &KeyEvent<'_>| panic!("a listener that panics stops nothing"));
    let owner = account(OWNER);
    let settings = UsageSettings::default().with_interval(Duration::from_hours(1));
    let usage = Usage::collect(
        store.clone(),
        settings.with_clock(clock.clone()).with_events(noted.listener()),
    );
    let layer = ApiKeyLayer::new(store.clone())
        .with_clock(clock.clone())
        .with_usage(&usage)
        .with_events(noted.listener());
    let open = layer.clone().with_transport(Transport::dangerously_assume_https());

    let issued = manager.create_first(&owner, named("First")).await.unwrap().unwrap();
    let id = issued.record().id.clone();
    manager.rename(&owner, &id, "Renamed".parse().unwrap()).await.unwrap();
    let issued = manager.regenerate(&owner, &id).await.unwrap();
    let key = text(issued);
    assert_eq!(noted.taken(), ["created", "renamed", "regenerated"]);
    assert_eq!(log.lines("a listener to key events panicked").len(), 3);

    let request = |key: &str| Request::builder().header("api-key", key).body(()).unwrap();
    assert_eq!(send(&open, request(&key)).await, 200);
    assert_eq!(noted.taken(), [""; 0]);
    usage.flush().await;
    assert_eq!(noted.taken(), ["used"]);

    // In the clear: refused, and found to be valid, by and by.
    assert_eq!(send(&layer, request(&key)).await, 401);
    soon(async {
        while noted.0.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(noted.taken(), ["refused", "exposed"]);
    // Not for a key that is none.
    let wrong = format!("{}!", &key[..key.len() - 1]);
    assert_eq!(send(&layer, request(&wrong)).await, 401);

    let _ = manager.rotate(&owner, &id, Duration::from_hours(24)).await.unwrap();
    assert_eq!(noted.taken(), ["refused", "rotated"]);
    for _ in 0..2 {
        assert_eq!(send(&open, request(&key)).await, 200);
        usage.flush().await;
    }
    assert_eq!(noted.taken(), ["expiring", "used", "used"], "told of once a day");
    manager.delete(&owner, &id).await.unwrap();
    assert_eq!(manager.delete_all(&owner).await.unwrap(), 1);
    assert_eq!(noted.taken(), ["deleted", "deleted_all"]);
    assert!(manager.delete(&owner, &id).await.is_err());
    assert_eq!(noted.taken(), [""; 0], "what did not happen is not told of");
}

/// Whoever floods with keys in the clear makes few lookups of it.
#[tokio::test(start_paused = true)]
async fn keys_in_the_clear_are_looked_up_a_few_times_a_second() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let key = text(manager.create(&account(OWNER), named("x")).await.unwrap());
    let noted = Noted::default();
    let layer = ApiKeyLayer::new(store).with_events(noted.listener());
    let mut exposed = 0;
    for _ in 0..3 {
        for _ in 0..100 {
            let request = Request::builder().header("api-key", &key).body(()).unwrap();
            assert_eq!(send(&layer, request).await, 401);
            // Whoever was looked up is, by now.
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        exposed += noted.taken().iter().filter(|name| *name == "exposed").count();
    }
    assert_eq!(exposed, 24);
}

#[tokio::test]
async fn a_flood_in_the_clear_hides_nothing_that_comes_from_elsewhere() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let key = text(manager.create(&account(OWNER), named("x")).await.unwrap());
    let strange = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let strange = text(strange.create(&account(OWNER), named("x")).await.unwrap());
    let noted = Noted::default();
    let layer = ApiKeyLayer::new(store).with_events(noted.listener());
    let ask = async |key: &str, from: [u8; 4]| {
        let mut request = Request::builder().header("api-key", key);
        let peer = SocketAddr::from((from, 4711));
        request.extensions_mut().unwrap().insert(Connection::plain(peer));
        assert_eq!(send(&layer, request.body(()).unwrap()).await, 401);
        tokio::task::yield_now().await;
    };
    for _ in 0..100 {
        ask(&strange, [192, 0, 2, 1]).await;
    }
    // One of 32 addresses is taken for the flood's; not eight of them.
    for last in 1..=8 {
        ask(&key, [203, 0, 113, last]).await;
    }
    assert!(noted.taken().iter().any(|name| *name == "exposed"));
}

#[tokio::test]
async fn metrics_count_without_naming_anybody() {
    use metrics::{Counter, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    type Counters = Vec<(String, Arc<std::sync::atomic::AtomicU64>)>;

    /// What an exporter would be given.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Counters>>);

    impl Recorder for Seen {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
            let name = format!("{} {}", key.name(), labels.collect::<Vec<_>>().join(","));
            let mut seen = self.0.lock().unwrap();
            let at = seen.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                seen.push((name, Arc::default()));
                seen.len() - 1
            });
            Counter::from_arc(Arc::clone(&seen[at].1))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> metrics::Gauge {
            metrics::Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> metrics::Histogram {
            metrics::Histogram::noop()
        }
    }

    let seen = Seen::default();
    let _guard = metrics::set_default_local_recorder(&seen);
    let counting = tower_api_key::Metrics::new();
    let store = MemoryStore::new();
    let usage = Usage::collect(store.clone(), UsageSettings::default().with_events(counting));
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_events(counting);
    let layer = ApiKeyLayer::new(store)
        .with_transport(Transport::dangerously_assume_https())
        .with_usage(&usage)
        .with_events(counting);
    let issued = manager.create(&account(OWNER), named("Production CRM")).await.unwrap();
    let key = text(issued);
    let request = |key: &str| Request::builder().header("api-key", key).body(()).unwrap();
    for _ in 0..3 {
        send(&layer, request(&key)).await;
    }
    send(&layer, request("nothing")).await;
    send(&layer, Request::new(())).await;
    usage.flush().await;
    assert_eq!(manager.delete_all(&account(OWNER)).await.unwrap(), 1);
    let mut counted: Vec<_> = seen
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(name, count)| format!("{name} {}", count.load(Ordering::Relaxed)))
        .collect();
    counted.sort();
    assert_eq!(
        counted,
        [
            "api_key_events_total event=created 1",
            "api_key_events_total event=deleted 1",
            "api_key_refusals_total reason=missing_key 1",
            "api_key_refusals_total reason=wrong_checksum 1",
            "api_key_requests_total  3",
        ]
    );
}
