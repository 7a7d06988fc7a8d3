//! The example server, three times over one store, watched from outside: every request and every
//! deletion with its beginning and its end, while replicas are killed and stopped, notifications cut
//! and the store restarted.
//!
//! Some seconds here; as long as `TOWER_API_KEY_HISTORY_SECONDS` says otherwise. The order of faults
//! is that of `TOWER_API_KEY_HISTORY_SEED`, which is printed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_api_key::{AccountId, KeyId, KeyManager, PostgresStore, RedisStore, SharedRegistry};

use crate::server::Server;
use crate::servers::{Postgres, Redis};
use crate::support::{account, named, soon};

const REPLICAS: usize = 3;
/// How many keys there are at a time.
const KEYS: usize = 12;
/// How long a deleted key is still tried.
const REMEMBERED: usize = 4;

/// A key, and what has happened to it.
struct Key {
    text: String,
    id: KeyId,
    /// From when on it may be refused.
    is_being_deleted: AtomicBool,
    /// From when on it must be.
    is_deleted: AtomicBool,
}

/// What was seen.
#[derive(Default)]
struct Seen {
    live: AtomicU64,
    /// Requests that began after the deletion of their key had returned.
    after: AtomicU64,
    unavailable: AtomicU64,
    violations: Mutex<Vec<String>>,
}

struct History {
    keys: Mutex<VecDeque<Arc<Key>>>,
    dead: Mutex<VecDeque<Arc<Key>>>,
    seen: Seen,
    is_over: AtomicBool,
}

/// What can be done to the store from outside.
trait Backend: Sync {
    fn url(&self) -> String;
    async fn connect(&self) -> Arc<dyn SharedRegistry>;
    /// Ends every connection that waits for notifications.
    async fn cut_notifications(&self);
    fn kill(&self);
    fn restart(&self);
}

struct OnPostgres(Postgres, String);
struct OnRedis(Redis);

impl Backend for OnPostgres {
    fn url(&self) -> String {
        self.0.url(&self.1)
    }

    async fn connect(&self) -> Arc<dyn SharedRegistry> {
        Arc::new(PostgresStore::connect(&self.url()).await.unwrap())
    }

    async fn cut_notifications(&self) {
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        self.0.execute("postgres", cut).await;
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn restart(&self) {
        self.0.restart();
    }
}

impl Backend for OnRedis {
    fn url(&self) -> String {
        self.0.url(0)
    }

    async fn connect(&self) -> Arc<dyn SharedRegistry> {
        Arc::new(RedisStore::connect(self.url()).await.unwrap())
    }

    async fn cut_notifications(&self) {
        self.0.say("CLIENT KILL TYPE pubsub").await;
    }

    fn kill(&self) {
        self.0.kill();
    }

    fn restart(&self) {
        self.0.restart();
    }
}

/// Small, and the same everywhere for the same chance.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most as u64).unwrap()
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn start(folder: &Path, number: usize, url: &str, cache: &str) -> Server {
    let folder = folder.join(number.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let arguments = ["--store", url, "--cache", cache, "--trusted-proxy", "127.0.0.0/8"];
    Server::start_logging(&folder, &arguments, "warn")
}

/// One connection; asks again and again, for keys in turn.
async fn ask_on(history: Arc<History>, address: Arc<Mutex<SocketAddr>>, mut dice: Dice) {
    while !history.is_over.load(Ordering::SeqCst) {
        let at = *address.lock().unwrap();
        let Ok(mut stream) = TcpStream::connect(at).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Until the connection is lost, or its server has gone and come back elsewhere.
        while !history.is_over.load(Ordering::SeqCst) && *address.lock().unwrap() == at {
            let key = {
                let keys = if dice.below(2) == 0 { &history.keys } else { &history.dead };
                let keys = keys.lock().unwrap();
                (!keys.is_empty()).then(|| Arc::clone(&keys[dice.below(keys.len())]))
            };
            let Some(key) = key else {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            };
            let must_be_dead = key.is_deleted.load(Ordering::SeqCst);
            let Some(status) = ask(&mut stream, &key.text).await else { break };
            let may_be_dead = key.is_being_deleted.load(Ordering::SeqCst);
            history.note(at, &key, status, must_be_dead, may_be_dead);
        }
    }
}

/// The status, unless the connection was lost.
async fn ask(stream: &mut TcpStream, key: &str) -> Option<u16> {
    let request = format!(
        "GET /v2/test HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nAPI-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
        let text = std::str::from_utf8(&answer).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
        });
        if body.len() == length.unwrap_or(0) {
            return text.get(9..12)?.parse().ok();
        }
    }
}

impl History {
    fn note(&self, at: SocketAddr, key: &Key, status: u16, must_be_dead: bool, may_be_dead: bool) {
        let count = match (status, must_be_dead) {
            (503, _) => &self.seen.unavailable,
            (_, true) => &self.seen.after,
            (_, false) => &self.seen.live,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let violation = match status {
            200 if must_be_dead => "was let in after its deletion had returned",
            401 if !may_be_dead => "was refused while it was live",
            200 | 401 | 503 => return,
            _ => "was answered something else",
        };
        let id = &key.id;
        self.seen.violations.lock().unwrap().push(format!("{at}: {id} {violation} ({status})"));
    }

    /// Makes a key and deletes an old one, again and again; how long deletions took.
    async fn manage(&self, manager: &KeyManager, owner: &AccountId) -> Vec<Duration> {
        let mut took = Vec::new();
        while !self.is_over.load(Ordering::SeqCst) {
            if let Ok(issued) = manager.create(owner, named("x")).await {
                let id = issued.record().id.clone();
                let text = issued.reveal().as_str().to_owned();
                let (is_being_deleted, is_deleted) = Default::default();
                let key = Key { text, id, is_being_deleted, is_deleted };
                self.keys.lock().unwrap().push_back(Arc::new(key));
            }
            let oldest = {
                let mut keys = self.keys.lock().unwrap();
                if keys.len() > KEYS { keys.pop_front() } else { None }
            };
            let Some(key) = oldest else { continue };
            key.is_being_deleted.store(true, Ordering::SeqCst);
            self.dead.lock().unwrap().push_back(Arc::clone(&key));
            let began = Instant::now();
            // An error says nothing: it is repeated until it is answered.
            while let Err(error) = manager.delete(owner, &key.id).await {
                if matches!(error, tower_api_key::ManageError::NotFound) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            key.is_deleted.store(true, Ordering::SeqCst);
            took.push(began.elapsed());
            // Time to be tried.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut dead = self.dead.lock().unwrap();
            while dead.len() > REMEMBERED {
                dead.pop_front();
            }
        }
        took
    }
}

/// Everything at once, for so long; what was seen.
async fn history(backend: &impl Backend, cache: &str, seconds: u64, has_faults: bool) -> Seen {
    let chance = setting("TOWER_API_KEY_HISTORY_SEED", 0x2026_1121);
    let folder = tempfile::tempdir().unwrap();
    let url = backend.url();
    let manager = KeyManager::new(backend.connect().await, "acme".parse().unwrap());
    let owner = account("admin@example.com");
    let mut servers: Vec<_> =
        (0..REPLICAS).map(|number| Some(start(folder.path(), number, &url, cache))).collect();
    let addresses: Vec<_> =
        servers.iter().map(|server| Arc::new(Mutex::new(server.as_ref().unwrap().http))).collect();
    let (keys, dead, seen, is_over) = Default::default();
    let history = Arc::new(History { keys, dead, seen, is_over });
    let mut askers = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        for more in 0..4 {
            let dice = Dice(chance + 1 + (number * 10 + more) as u64);
            askers.push(tokio::spawn(ask_on(Arc::clone(&history), Arc::clone(address), dice)));
        }
    }
    let managing = {
        let (history, owner) = (Arc::clone(&history), owner.clone());
        tokio::spawn(async move { history.manage(&manager, &owner).await })
    };
    let began = Instant::now();
    let mut dice = Dice(chance);
    let mut faults = [0; 4];
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(500 + dice.below(1000) as u64)).await;
        if !has_faults {
            continue;
        }
        let fault = dice.below(10);
        let number = dice.below(REPLICAS);
        let kind = match fault {
            0..3 => {
                let server = servers[number].take().unwrap();
                server.program.signal("-KILL");
                drop(server);
                let (folder, url, cache) =
                    (folder.path().to_owned(), url.clone(), cache.to_owned());
                let again = move || start(&folder, number, &url, &cache);
                let server = tokio::task::spawn_blocking(again).await.unwrap();
                *addresses[number].lock().unwrap() = server.http;
                servers[number] = Some(server);
                0
            }
            3..7 => {
                let server = servers[number].as_ref().unwrap();
                server.program.signal("-STOP");
                tokio::time::sleep(Duration::from_millis(200 + dice.below(2500) as u64)).await;
                server.program.signal("-CONT");
                1
            }
            7..9 => {
                backend.cut_notifications().await;
                2
            }
            _ => {
                tokio::task::block_in_place(|| backend.kill());
                tokio::time::sleep(Duration::from_millis(dice.below(1500) as u64)).await;
                tokio::task::block_in_place(|| backend.restart());
                3
            }
        };
        faults[kind] += 1;
    }
    history.is_over.store(true, Ordering::SeqCst);
    let mut took = soon(managing).await.unwrap();
    for asker in askers {
        asker.abort();
        let _ = asker.await;
    }
    took.sort();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len() - 1)).copied();
    let seen = Arc::into_inner(history).unwrap().seen;
    println!(
        "{} s, seed {chance}: {} live, {} after a deletion, {} while the store was away; {} kills, {} stops, {} cut notifications, {} restarts of the store; {} deletions: p50 {:.1?}, p99 {:.1?}, longest {:.1?}; {} violations",
        seconds,
        seen.live.load(Ordering::Relaxed),
        seen.after.load(Ordering::Relaxed),
        seen.unavailable.load(Ordering::Relaxed),
        faults[0],
        faults[1],
        faults[2],
        faults[3],
        took.len(),
        at(50).unwrap(),
        at(99).unwrap(),
        at(100).unwrap(),
        seen.violations.lock().unwrap().len(),
    );
    seen
}

async fn no_violation(backend: &impl Backend) {
    let seconds = setting("TOWER_API_KEY_HISTORY_SECONDS", 20);
    let seen = history(backend, "shared", seconds, true).await;
    let violations = seen.violations.into_inner().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(seen.after.into_inner() > 1000, "deleted keys were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_one_postgresql_never_let_a_deleted_key_in() {
    let Some(server) = Postgres::options().durable().start() else { return };
    let name = server.new_database().await;
    no_violation(&OnPostgres(server, name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_on_one_redis_never_let_a_deleted_key_in() {
    let Some(server) = Redis::start(&Redis::DURABLE) else { return };
    no_violation(&OnRedis(server)).await;
}

/// The checker objects to servers that trust their memory without asking anybody.
#[tokio::test(flavor = "multi_thread")]
async fn servers_without_a_lease_are_found_out() {
    let Some(server) = Redis::start(&Redis::DURABLE) else { return };
    let seen = history(&OnRedis(server), "alone", 5, false).await;
    let violations = seen.violations.into_inner().unwrap();
    assert!(violations.iter().any(|violation| violation.contains("let in after")), "nothing seen");
}
