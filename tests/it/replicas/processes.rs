//! The example server, three times over one store, watched from outside: every request and every
//! deletion with its beginning and its end, while replicas are killed, stopped and cut off, notifications
//! cut and the store restarted.
//!
//! Some seconds here; as long as `TOWER_API_KEY_HISTORY_SECONDS` says otherwise. The order of faults
//! is that of `TOWER_API_KEY_HISTORY_SEED`, which is printed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinError;
use tower_api_key::{AccountId, KeyId, KeyManager, PostgresStore, RedisStore, SharedRegistry};

use crate::server::Server;
use crate::servers::folder::Folder;
use crate::servers::{Network, Postgres, Redis};
use crate::support::{account, named, path_of, soon, text};

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
    fn port(&self) -> u16;
    /// Where it is for whoever reaches it at this host and port.
    fn url_at(&self, address: &str) -> String;
    async fn connect(&self) -> Arc<dyn SharedRegistry>;
    /// Ends every connection that waits for notifications.
    async fn cut_notifications(&self);
    fn kill(&self);
    fn restart(&self);
}

struct OnPostgres(Postgres, String);
struct OnRedis(Redis);

impl Backend for OnPostgres {
    fn port(&self) -> u16 {
        self.0.port()
    }

    fn url_at(&self, address: &str) -> String {
        format!("postgres://postgres@{address}/{}?sslmode=disable", self.1)
    }

    async fn connect(&self) -> Arc<dyn SharedRegistry> {
        Arc::new(PostgresStore::connect(&self.0.url(&self.1)).await.unwrap())
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
    fn port(&self) -> u16 {
        self.0.port()
    }

    fn url_at(&self, address: &str) -> String {
        format!("redis://{address}")
    }

    async fn connect(&self) -> Arc<dyn SharedRegistry> {
        Arc::new(RedisStore::connect(self.0.url(0)).await.unwrap())
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

/// One of the servers, and how to start it again.
#[derive(Clone)]
struct Replica {
    folder: PathBuf,
    url: String,
    cache: &'static str,
    network: Option<Arc<Network>>,
}

impl Replica {
    /// The first of them has a network of its own, where that is allowed.
    async fn new(
        backend: &impl Backend,
        folder: &Path,
        number: usize,
        cache: &'static str,
    ) -> Self {
        let network = if number == 0 { Network::new().map(Arc::new) } else { None };
        let url = match &network {
            Some(network) => backend.url_at(&network.reaches(backend.port()).await),
            None => backend.url_at(&format!("127.0.0.1:{}", backend.port())),
        };
        let folder = folder.join(number.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, url, cache, network }
    }

    /// As whoever runs servers does: one that gives up because the store is slow to answer is started again.
    async fn start(&self) -> Server {
        for _ in 0..3 {
            if let Ok(server) = self.try_to_start().await {
                return server;
            }
        }
        self.try_to_start().await.unwrap()
    }

    async fn try_to_start(&self) -> Result<Server, JoinError> {
        let replica = self.clone();
        tokio::task::spawn_blocking(move || {
            let program = path_of("server");
            let (mut command, address, clients) = match &replica.network {
                Some(network) => (network.command(&program), network.address(), network.clients()),
                None => (Command::new(program), "127.0.0.1:0".into(), "127.0.0.1/32".into()),
            };
            command
                .args(["--store", &replica.url, "--cache", replica.cache])
                .env("RUST_LOG", "warn");
            command.args(["--http-addr", &address, "--trusted-proxy", &clients]);
            Server::run(&mut command, &replica.folder)
        })
        .await
    }
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

impl Seen {
    fn summary(&self) -> String {
        let [live, after, unavailable] =
            [&self.live, &self.after, &self.unavailable].map(|count| count.load(Ordering::Relaxed));
        let violations = self.violations.lock().unwrap().len();
        format!(
            "{live} answers before a deletion, {after} after, {unavailable} while a replica was without \
             the store; {violations} violations"
        )
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
                let text = text(issued);
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

/// What can go wrong, and how often of ten times it does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    Stop,
    CutOff,
    CutNotifications,
    RestartTheStore,
}

const FAULTS: [(Fault, usize); 5] = [
    (Fault::Kill, 2),
    (Fault::Stop, 3),
    (Fault::CutOff, 2),
    (Fault::CutNotifications, 2),
    (Fault::RestartTheStore, 1),
];

/// Everything at once, for so long; what was seen.
async fn history(backend: &impl Backend, cache: &'static str, seconds: u64, faults: bool) -> Seen {
    let chance = setting("TOWER_API_KEY_HISTORY_SEED", 0x2026_1121);
    let folder = Folder::new();
    let manager = KeyManager::new(backend.connect().await, "acme".parse().unwrap());
    let owner = account("admin@example.com");
    let (mut replicas, mut servers, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..REPLICAS {
        let replica = Replica::new(backend, folder.path(), number, cache).await;
        let server = replica.start().await;
        addresses.push(Arc::new(Mutex::new(server.http)));
        servers.push(Some(server));
        replicas.push(replica);
    }
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
    let mut to_come = Vec::new();
    let mut done = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(300 + dice.below(700) as u64)).await;
        if !faults {
            continue;
        }
        if to_come.is_empty() {
            to_come.extend(FAULTS.iter().flat_map(|&(fault, times)| [fault].repeat(times)));
        }
        let fault = to_come.swap_remove(dice.below(to_come.len()));
        let number = dice.below(REPLICAS);
        let a_while = Duration::from_millis(200 + dice.below(2500) as u64);
        match fault {
            Fault::Kill => {
                let server = servers[number].take().unwrap();
                server.program.signal("-KILL");
                drop(server);
                let server = replicas[number].start().await;
                *addresses[number].lock().unwrap() = server.http;
                servers[number] = Some(server);
            }
            Fault::Stop => {
                let server = servers[number].as_ref().unwrap();
                server.program.signal("-STOP");
                tokio::time::sleep(a_while).await;
                server.program.signal("-CONT");
            }
            Fault::CutOff => {
                let Some(network) = &replicas[0].network else { continue };
                network.cut();
                tokio::time::sleep(a_while).await;
                network.heal();
            }
            Fault::CutNotifications => backend.cut_notifications().await,
            Fault::RestartTheStore => {
                tokio::task::block_in_place(|| backend.kill());
                tokio::time::sleep(a_while / 2).await;
                tokio::task::block_in_place(|| backend.restart());
            }
        }
        done.push(fault);
    }
    history.is_over.store(true, Ordering::SeqCst);
    let mut took = soon(managing).await.unwrap();
    for asker in askers {
        asker.abort();
        let _ = asker.await;
    }
    took.sort();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    let seen = Arc::into_inner(history).unwrap().seen;
    println!("{seconds} s, seed {chance}: {}", seen.summary());
    for (fault, _) in FAULTS {
        print!("{} x {fault:?}, ", done.iter().filter(|&&other| other == fault).count());
    }
    println!(
        "{} deletions: p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        took.len(),
        at(50),
        at(99),
        at(100)
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
