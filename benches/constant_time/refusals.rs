//! Whether a caller can tell by the time why its key was refused. Each reason is measured against that of a
//! well-formed key which nobody has made, in pairs whose order is drawn, through the whole layer: from the
//! call of the service to the response. Without a server and a network, which add the same to all. Once more with
//! a log, which says less of what cannot be a key (its sender knows that it cannot), and with counts of use.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, StatusCode};
use tower::{Layer as _, Service as _};
use tower_api_key::middleware::ApiKeyService;
use tower_api_key::{
    ApiKeyLayer, Connection, Hashing, KeyManager, ManualClock, MemoryStore, NewKey, Pepper,
    Rejection, RejectionKind, Transport, Usage, UsageSettings,
};

use crate::call::{Inner, now};
use crate::chance::Chance;
use crate::ticks::{as_float, nanoseconds_per_tick, ticks};

/// How far apart two medians may be, in nanoseconds.
const LIMIT: f64 = 100.0;

/// The table in which what cannot be a key may take less, though not more.
const WITH_LOG: &str = "refused, with a log";

/// How many keys there are of each kind: who wants to know why has a key or a few, and sends them again and
/// again.
const KEYS: usize = 16;

/// Keys that are refused for one reason.
struct Refused {
    name: &'static str,
    kind: RejectionKind,
    keys: Vec<HeaderValue>,
}

/// Prints the tables; `false` if a reason can be told by the time.
pub fn run(pairs: usize) -> bool {
    println!(
        "{pairs} pairs each, in nanoseconds: the medians, how far they are apart, and the median of how far \
         the two of a pair are apart\n"
    );
    let pepper = Pepper::new(Chance::new().bytes::<32>().to_vec()).unwrap();
    let nothing = |layer: ApiKeyLayer, _: &MemoryStore| layer;
    let plain = table("refused, with SHA-256", &Hashing::default(), pairs, nothing);
    let peppered = table("refused, with a pepper", &Hashing::peppered(pepper), pairs, nothing);
    let log = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
    let logged = tracing::subscriber::with_default(log, || {
        table(WITH_LOG, &Hashing::default(), pairs, nothing)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let counted =
        table("refused, with counts of use", &Hashing::default(), pairs, |layer, store| {
            let _inside = runtime.enter();
            layer.with_usage(&Usage::collect(store.clone(), UsageSettings::default()))
        });
    plain && peppered && logged && counted
}

fn table(
    title: &str,
    hashing: &Hashing,
    pairs: usize,
    with_more: impl FnOnce(ApiKeyLayer, &MemoryStore) -> ApiKeyLayer,
) -> bool {
    let store = MemoryStore::new();
    let layer = ApiKeyLayer::new(store.clone())
        .with_transport(Transport::insecure_on_loopback())
        .with_environment("live".parse().unwrap())
        .with_hashing(hashing.clone());
    let mut service = with_more(layer, &store).layer(Inner);
    let tick = nanoseconds_per_tick();
    println!("{title:<30} {:>8} {:>8} {:>8} {:>8}", "its", "unknown", "apart", "in pairs");
    let [unknown, others @ ..] = refused(&store, hashing);
    let mut are_alike = true;
    for reason in &others {
        let medians = medians(&mut service, pairs, [reason, &unknown]);
        let [its, of_unknown, in_pairs] = medians.map(|ticks| ticks * tick);
        let apart = its - of_unknown;
        let is_said_by_the_text =
            matches!(reason.kind, RejectionKind::WrongChecksum | RejectionKind::MalformedKey);
        let at_least = if title == WITH_LOG && is_said_by_the_text { f64::MIN } else { -LIMIT };
        let is_alike = [apart, in_pairs].iter().all(|apart| (at_least..LIMIT).contains(apart));
        let verdict = if is_alike { "" } else { "  TOO FAR" };
        println!(
            "{:<30} {its:>8.1} {of_unknown:>8.1} {apart:>+8.1} {in_pairs:>+8.1}{verdict}",
            reason.name
        );
        are_alike &= is_alike;
    }
    println!();
    are_alike
}

/// The reasons, unknown keys first.
fn refused(store: &MemoryStore, hashing: &Hashing) -> [Refused; 11] {
    use RejectionKind as Kind;
    let account = "admin@example.com".parse().unwrap();
    let new = || NewKey::new("Production CRM".parse().unwrap());
    let live = || new().with_environment("live".parse().unwrap());
    let soon = SystemTime::now() - Duration::from_hours(1);
    let manager = |store: &MemoryStore| {
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        let clock = ManualClock::at(soon - Duration::from_hours(1));
        manager
            .with_hashing(hashing.clone())
            .with_limit(usize::MAX)
            .with_clock(clock)
            .without_settling()
    };
    let (here, elsewhere) = (manager(store), manager(&MemoryStore::new()));
    let made = |manager: &KeyManager, new: NewKey| now(manager.create(&account, new)).unwrap();
    let of = |name, kind, key: &dyn Fn() -> Vec<u8>| Refused {
        name,
        kind,
        keys: (0..KEYS).map(|_| HeaderValue::from_bytes(&key()).unwrap()).collect(),
    };
    let text = |manager: &KeyManager, new| made(manager, new).reveal().as_str().as_bytes().to_vec();
    // A stranger's key, with something done to its text.
    let strange = |change: fn(&mut Vec<u8>)| {
        let mut key = text(&elsewhere, live());
        change(&mut key);
        key
    };
    let ended = |end: &dyn Fn(&tower_api_key::KeyId)| {
        let issued = made(&here, live());
        end(&issued.record().id);
        issued.reveal().as_str().as_bytes().to_vec()
    };
    [
        of("unknown", Kind::UnknownKey, &|| strange(|_| {})),
        // What the machine alone does.
        of("unknown too", Kind::UnknownKey, &|| strange(|_| {})),
        of("wrong checksum", Kind::WrongChecksum, &|| strange(|key| *key.last_mut().unwrap() ^= 1)),
        of("malformed: not ASCII", Kind::MalformedKey, &|| strange(|key| key[20] = 0xff)),
        of("malformed: 257 characters", Kind::MalformedKey, &|| {
            strange(|key| key.resize(257, b'x'))
        }),
        of("deleted", Kind::DeletedKey, &|| ended(&|id| now(here.delete(&account, id)).unwrap())),
        of("regenerated", Kind::RegeneratedKey, &|| {
            ended(&|id| drop(now(here.regenerate(&account, id)).unwrap()))
        }),
        of("rotated", Kind::RotatedKey, &|| {
            ended(&|id| drop(now(here.rotate(&account, id, Duration::ZERO)).unwrap()))
        }),
        of("expired", Kind::ExpiredKey, &|| text(&here, live().with_expires_at(soon))),
        of("of another environment", Kind::WrongEnvironment, &|| {
            text(&here, new().with_environment("test".parse().unwrap()))
        }),
        of("from another address", Kind::WrongSource, &|| {
            text(&here, live().with_sources("203.0.113.0/24".parse().unwrap()))
        }),
    ]
}

/// The medians, in ticks, of two kinds of refusals and of the differences within pairs. Where a processor
/// changes between two speeds, the medians of both kinds jump from one to the other, and not together; the
/// two of a pair are of one speed.
fn medians(service: &mut ApiKeyService<Inner>, pairs: usize, kinds: [&Refused; 2]) -> [f64; 3] {
    let mut chance = Chance::new();
    let mut times = [const { Vec::new() }; 3];
    // The first calls are slow for reasons of their own.
    for pair in 0..pairs + pairs / 100 {
        let first = usize::from(chance.coin());
        let mut of_the_pair = [0, 0];
        for which in [first, 1 - first] {
            let key = chance.pick(&kinds[which].keys);
            of_the_pair[which] = refuse(service, key, kinds[which].kind);
        }
        if pair >= pairs / 100 {
            let [its, of_unknown] = of_the_pair;
            for (times, time) in times.iter_mut().zip([its, of_unknown, its - of_unknown]) {
                times.push(time);
            }
        }
    }
    times.map(|mut times| {
        let middle = times.len() / 2;
        as_float(*times.select_nth_unstable(middle).1)
    })
}

/// How long it takes to refuse a key, in ticks.
fn refuse(service: &mut ApiKeyService<Inner>, key: &HeaderValue, kind: RejectionKind) -> i64 {
    let mut request = Request::new(());
    for name in ["host", "user-agent", "accept", "accept-encoding", "content-type"] {
        request.headers_mut().insert(name, HeaderValue::from_static("a"));
    }
    request.headers_mut().insert("api-key", key.clone());
    request.extensions_mut().insert(Connection::plain(SocketAddr::from(([127, 0, 0, 1], 443))));
    let request = black_box(request);
    let before = ticks();
    let response = black_box(now(service.call(request)).unwrap());
    let time = (ticks() - before).cast_signed();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.extensions().get::<Rejection>().unwrap().kind(), kind);
    time
}
