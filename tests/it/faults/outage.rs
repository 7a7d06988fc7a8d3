//! The server is away for a while: refused, never let through, never called unknown; then all is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tower_api_key::KeyManager;

use super::{Backend, Door, Store, unknown_key};
use crate::servers::Wire;
use crate::support::{BUSY, account, named, soon, text};

/// How long the server stays away.
const AWAY: Duration = Duration::from_millis(2_500);
/// The longest that a request may take meanwhile, and until one succeeds afterwards; [`BUSY`] is not in it.
const AT_MOST: Duration = Duration::from_secs(1);
/// Clients that ask one request after another.
const CLIENTS: usize = 6;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Killed,
    Paused,
    Cut,
    Silent,
}

impl Fault {
    async fn begin(self, backend: &Backend, wire: &Wire) {
        match self {
            Self::Killed => backend.kill(),
            Self::Paused => backend.pause(),
            Self::Cut => wire.cut().await,
            Self::Silent => wire.blackhole(),
        }
    }

    async fn end(self, backend: &Backend, wire: &Wire) {
        match self {
            Self::Killed => backend.restart(),
            Self::Paused => backend.resume(),
            Self::Cut | Self::Silent => wire.heal().await,
        }
    }
}

/// Keys, each with the status that it has while all is well.
type Keys = [(String, u16); 3];

/// One request.
struct Asked {
    expected: u16,
    status: u16,
    start: Instant,
    took: Duration,
}

/// While the server is away, every well-formed key is answered 503 within a second; before, during
/// and after, a valid key is never called invalid and no other is let through. Within a second of its
/// return a request succeeds, and all that come then.
pub(super) async fn is_refused_and_ends(backend: Backend, fault: Fault) {
    // Alone among its like: it measures time.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let wire = Wire::to(backend.port()).await;
    let store = backend.connect_by(wire.port()).await.unwrap();
    let (manager, keys) = keys(&store).await;
    let door = Door::of(store);
    let stop = Arc::new(AtomicBool::new(false));
    let clients =
        [(); CLIENTS].map(|()| tokio::spawn(ask_on(door.clone(), keys.clone(), Arc::clone(&stop))));
    tokio::time::sleep(Duration::from_millis(300)).await;

    let before = Instant::now();
    fault.begin(&backend, &wire).await;
    let begun = Instant::now();
    tokio::time::sleep(AWAY).await;
    let written = manager.create(&account("a"), named("while away")).await;
    assert!(written.is_err(), "{written:?}");
    let ending = Instant::now();
    fault.end(&backend, &wire).await;

    let returned = Instant::now();
    let first = soon(first_success(&door, &keys[0].0)).await - returned;
    stop.store(true, Ordering::SeqCst);
    let mut asked = Vec::new();
    for client in clients {
        asked.extend(client.await.unwrap());
    }
    let name = backend.name();
    let (refused, slowest) = judge(&asked, before, begun, ending);
    println!(
        "{name}, {fault:?}: {refused} refused, the slowest in {slowest:.0?}; first success {first:.0?} after the return"
    );
    assert!(first < AT_MOST + BUSY, "{first:?}");
    for _ in 0..100 {
        for (key, expected) in &keys {
            assert_eq!(door.status(key).await, *expected, "something of the outage is left");
        }
    }
    let _after = manager.create(&account("a"), named("after")).await.unwrap();
}

/// How many were refused while the server was away, and the slowest of them.
fn judge(asked: &[Asked], before: Instant, begun: Instant, ending: Instant) -> (usize, Duration) {
    let mut seen = [0, 0];
    let mut slowest = Duration::ZERO;
    for Asked { expected, status, start, took } in asked {
        assert!(status == expected || *status == 503, "{status} in place of {expected}");
        if *start + *took < before {
            assert_eq!(status, expected, "before the outage");
            seen[0] += 1;
        }
        if *start > begun && *start + *took < ending {
            assert_eq!(*status, 503, "in the outage");
            slowest = slowest.max(*took);
            seen[1] += 1;
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
    assert!(slowest < AT_MOST + BUSY, "{slowest:?}");
    (seen[1], slowest)
}

/// A valid key, a deleted one, and one that never was.
async fn keys(store: &Store) -> (KeyManager, Keys) {
    let manager = KeyManager::new(Arc::clone(store), "acme".parse().unwrap());
    let owner = account("a");
    let valid = manager.create(&owner, named("valid")).await.unwrap();
    let deleted = manager.create(&owner, named("deleted")).await.unwrap();
    manager.delete(&owner, &deleted.record().id).await.unwrap();
    let keys = [(text(valid), 200), (text(deleted), 401), (unknown_key().await, 401)];
    (manager, keys)
}

async fn ask_on(door: Door, keys: Keys, stop: Arc<AtomicBool>) -> Vec<Asked> {
    let mut asked = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        for (key, expected) in &keys {
            let start = Instant::now();
            let (status, took) = door.ask(key).await;
            asked.push(Asked { expected: *expected, status, start, took });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asked
}

async fn first_success(door: &Door, key: &str) -> Instant {
    loop {
        match door.status(key).await {
            200 => return Instant::now(),
            status => assert_eq!(status, 503),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
