//! A server at saturation for a long time, with a tenth of hostile requests: `cargo bench --bench soak`.
//!
//! The server is this program again, in a process of its own: TLS, the layer, usage counts, and a cache before
//! SQLite, with every refusal logged (to nowhere). 80 connections ask as fast as they are answered. In the calm
//! run all of them have a valid key; then 16 are of clients that mean no good, and one request in ten is theirs:
//! no key, unknown (another one each time), deleted, mistyped, huge and doubled ones. Besides, 300 times a second
//! somebody connects who sends 1 MiB of headers, a body of 1 MiB, no HTTP, the key in the clear, half of a request or
//! nothing.
//!
//! Fails when anybody gets a 5xx, when a good request does not get its 200, when a hostile one is let in, when
//! the server's memory goes on growing in the last third or is more than [`ROOM`] above that of the calm run, when
//! files stay open, or, in an optimised build, when the good requests' 99th percentile is more than twice that of the
//! calm run. `SOAK_CALM` and `SOAK_SECONDS` say how long, and `SOAK_INTRUSIONS` how often a second somebody connects.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark")]

#[path = "loopback/tls.rs"]
mod tls;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_api_key::axum::protect;
use tower_api_key::tls::AxumServerAcceptor;
use tower_api_key::{
    AccountId, ApiKeyLayer, CacheSettings, CachedStore, KeyManager, MemoryStore, NewKey,
    SqliteStore, Transport, Usage, UsageSettings,
};

/// In the environment of the server's process: the folder of its data.
const SERVE: &str = "SOAK_SERVE";

const GOOD: usize = 64;
const HOSTILE: usize = 16;

/// In KiB: for 600 connections that say nothing or not everything, with 40 KiB each for TLS and what was read, and
/// for 10,000 unknown keys in the cache.
const ROOM: u64 = 28 * 1_024;

/// How much longer good requests may take beside hostile ones, in an optimised build.
const LONGER: f64 = 2.0;

/// How long a slow client holds a connection, and what is waited for an answer.
const HELD: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Ok(folder) = std::env::var(SERVE) {
        runtime.block_on(serve(&folder));
        return;
    }
    let seconds = |name, otherwise| {
        let set = std::env::var(name).ok().map(|text| text.parse().unwrap());
        Duration::from_secs(set.unwrap_or(otherwise))
    };
    let intrusions = std::env::var("SOAK_INTRUSIONS").map_or(300, |text| text.parse().unwrap());
    let (calm, soak) = (seconds("SOAK_CALM", 10), seconds("SOAK_SECONDS", 20));
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path().to_str().unwrap());
    println!(
        "{} connections, {calm:?} calm, then {soak:?} with one request in ten hostile",
        GOOD + HOSTILE
    );
    let calm = runtime.block_on(run(&server, calm, None));
    println!("calm     {}", calm.latencies);
    let soaked = runtime.block_on(run(&server, soak, Some(intrusions)));
    println!("hostile  {}", soaked.latencies);
    for (what, count) in &soaked.hostile {
        println!("         {count:>9}  {what}");
    }
    let (third, end) = soaked.memory();
    println!(
        "memory   {} KiB after the calm run, {third} at most in the second third, {end} in the last",
        calm.resident
    );
    println!("files    {} open after the calm run, {} at the end", calm.files, soaked.files);
    let longer = ratio(soaked.latencies.at(99.0), calm.latencies.at(99.0));
    println!(
        "p99      {longer:.2} times the calm run's, of {LONGER} that it may be when optimised"
    );
    assert!(end <= third + third / 20, "the memory goes on growing");
    assert!(third.max(end) <= calm.resident + ROOM, "more memory than there is room for");
    assert!(soaked.files <= calm.files + GOOD, "files stay open");
    assert!(longer <= LONGER || cfg!(debug_assertions), "good requests suffer");
}

fn ratio(one: u64, other: u64) -> f64 {
    f64::from(u32::try_from(one).unwrap()) / f64::from(u32::try_from(other.max(1)).unwrap())
}

/// What came of a run.
struct Outcome {
    latencies: Latencies,
    hostile: BTreeMap<String, u64>,
    /// The server's resident memory every second, and at the end; in KiB.
    samples: Vec<u64>,
    resident: u64,
    files: usize,
}

impl Outcome {
    /// The most in the second and in the last third.
    fn memory(&self) -> (u64, u64) {
        let third = self.samples.len() / 3;
        let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
        (most(&self.samples[third..2 * third]), most(&self.samples[2 * third..]))
    }
}

/// How many good requests took how many microseconds.
struct Latencies(Vec<AtomicU64>);

impl Latencies {
    fn new() -> Self {
        Self((0..=5_000_000).map(|_| AtomicU64::new(0)).collect())
    }

    fn add(&self, time: Duration) {
        let last = self.0.len() - 1;
        self.0[usize::try_from(time.as_micros()).unwrap_or(last).min(last)].fetch_add(1, Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// What this part of a hundred is within, in microseconds.
    fn at(&self, percent: f64) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let mut rank = (self.count() as f64 * percent / 100.0) as u64;
        for (time, count) in self.0.iter().enumerate() {
            match rank.checked_sub(count.load(Relaxed)) {
                Some(rest) if rest > 0 => rank = rest,
                _ => return time as u64,
            }
        }
        self.0.len() as u64
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly, all] = [50.0, 99.0, 99.9, 100.0].map(|percent| self.at(percent));
        let count = self.count();
        write!(
            f,
            "{count} good requests: p50 {half} µs, p99 {most} µs, p99.9 {nearly} µs, the slowest {all} µs"
        )
    }
}

async fn run(server: &Server, time: Duration, hostility: Option<u32>) -> Outcome {
    let play = Arc::new(Play::new(server));
    let mut tasks = JoinSet::new();
    let hostile = if hostility.is_some() { HOSTILE } else { 0 };
    for number in 0..hostile {
        tasks.spawn(Arc::clone(&play).attack(number));
    }
    for _ in hostile..GOOD + HOSTILE {
        tasks.spawn(Arc::clone(&play).ask());
    }
    if let Some(intrusions @ 1..) = hostility {
        tasks.spawn(Arc::clone(&play).intrude(Duration::from_secs(1) / intrusions));
    }
    let mut samples = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(1)).await;
        samples.push(server.resident());
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
    }
    play.is_over.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let Play { latencies, hostile, .. } = Arc::into_inner(play).unwrap();
    let hostile = hostile.into_inner().unwrap();
    Outcome { latencies, hostile, samples, resident: server.resident(), files: server.files() }
}

/// What the clients of a run share.
struct Play {
    server: Arc<Address>,
    is_over: AtomicBool,
    /// How many requests with a valid key were answered, and how many others were made.
    good: AtomicU64,
    bad: AtomicU64,
    latencies: Latencies,
    /// What was refused, how often.
    hostile: Mutex<BTreeMap<String, u64>>,
}

impl Play {
    fn new(server: &Server) -> Self {
        Self {
            server: Arc::clone(&server.address),
            is_over: AtomicBool::new(false),
            good: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            latencies: Latencies::new(),
            hostile: Mutex::default(),
        }
    }

    fn is_on(&self) -> bool {
        !self.is_over.load(Relaxed)
    }

    /// A good client: one request after the other.
    async fn ask(self: Arc<Self>) {
        let mut connection = Connection::tls(self.server.https).await.unwrap();
        let request = ask(&format!("API-Key: {}\r\n", self.server.keys.valid));
        while self.is_on() {
            let start = Instant::now();
            let status = connection.ask(request.as_bytes()).await;
            self.latencies.add(start.elapsed());
            assert_eq!(status, Some(200), "a good request");
            self.good.fetch_add(1, Relaxed);
        }
    }

    /// A hostile client on one connection, until a tenth of all requests is hostile.
    async fn attack(self: Arc<Self>, number: usize) {
        let mut attacker = Attacker::new(&self.server, number).await;
        while self.is_on() {
            if self.bad.load(Relaxed) * 9 > self.good.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            self.bad.fetch_add(1, Relaxed);
            self.note(attacker.attack().await);
        }
    }

    /// Hostile clients who connect, one in each `interval`, whether or not the last has gone.
    async fn intrude(self: Arc<Self>, interval: Duration) {
        let mut under_way = JoinSet::new();
        let mut ticks = tokio::time::interval(interval);
        for step in 0.. {
            if !self.is_on() {
                break;
            }
            ticks.tick().await;
            let play = Arc::clone(&self);
            under_way.spawn(async move {
                let intruder = Intruder(Arc::clone(&play.server));
                play.note(&intruder.intrude(step).await);
            });
            while let Some(ended) = under_way.try_join_next() {
                ended.unwrap();
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended.unwrap();
        }
    }

    fn note(&self, what: &str) {
        let mut hostile = self.hostile.lock().unwrap();
        match hostile.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(hostile.insert(what.to_owned(), 1)),
        }
    }
}

fn ask(headers: &str) -> String {
    format!("GET /v2/test HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Somebody who asks for what is refused, on one connection.
struct Attacker {
    server: Arc<Address>,
    connection: Connection,
    step: usize,
}

impl Attacker {
    async fn new(server: &Arc<Address>, step: usize) -> Self {
        let connection = Connection::tls(server.https).await.unwrap();
        Self { server: Arc::clone(server), connection, step }
    }

    /// One hostile request, which must get 401, and what it was.
    async fn attack(&mut self) -> &'static str {
        self.step += 1;
        let Keys { valid, mistyped, deleted } = &self.server.keys;
        let (what, headers) = match self.step % 8 {
            0 => ("no key", String::new()),
            1 => ("a key that nobody made", format!("API-Key: {}\r\n", unknown().await)),
            2 => ("a deleted key", format!("API-Key: {deleted}\r\n")),
            3 => ("two keys", format!("API-Key: {valid}\r\nAPI-Key: {valid}\r\n")),
            4 => ("a key of 64 KiB", format!("API-Key: {}\r\n", "x".repeat(65_536))),
            5 => (
                "the key where none belongs",
                format!("Authorization: Bearer {valid}\r\nX-API-Key: {valid}\r\n"),
            ),
            6 => ("a mistyped key", format!("API-Key: {mistyped}\r\n")),
            _ => ("bytes that no key has", "API-Key: \u{e4}\u{f6}\u{fc}\r\n".to_owned()),
        };
        let status = self.connection.ask(ask(&headers).as_bytes()).await;
        assert_eq!(status, Some(401), "{what}");
        what
    }
}

/// Somebody who comes with a connection each time.
struct Intruder(Arc<Address>);

impl Intruder {
    /// One hostile connection, and what it was. Panics when it was let in, or got a 5xx.
    async fn intrude(&self, step: usize) -> String {
        match step % 6 {
            0 => {
                let headers = format!("X: {}\r\n", "x".repeat(1 << 20));
                self.once("1 MiB of headers", &ask(&headers), 431).await
            }
            1 => {
                let head = "POST /v2/test HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n";
                let request = format!("{head}{}", "x".repeat(1 << 20));
                self.once("a body of 1 MiB that nobody reads", &request, 401).await
            }
            2 => self.once("no HTTP", "\0\u{1}nonsense\r\n\r\n", 400).await,
            3 => self.plain().await,
            4 => self.half().await,
            _ => self.silent(step % 4 == 1).await,
        }
    }

    /// The server may close the connection before it has read everything.
    async fn once(&self, what: &str, request: &str, expected: u16) -> String {
        let mut connection = Connection::tls(self.0.https).await.unwrap();
        match connection.ask(request.as_bytes()).await {
            Some(status) => {
                assert_eq!(status, expected, "{what}");
                format!("{what}: {status}")
            }
            None => format!("{what}: the connection was closed"),
        }
    }

    /// The valid key, in the clear, with all that a client can say about HTTPS.
    async fn plain(&self) -> String {
        let Ok(stream) = TcpStream::connect(self.0.http).await else { panic!("the port is open") };
        let key = &self.0.keys.valid;
        let request = format!(
            "GET https://localhost/v2/test HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nForwarded: proto=https\r\nAPI-Key: {key}\r\n\r\n"
        );
        let status = Connection(Box::new(stream)).ask(request.as_bytes()).await;
        assert_eq!(status, Some(401), "in the clear");
        "the valid key in the clear: 401".to_owned()
    }

    async fn half(&self) -> String {
        let mut connection = Connection::tls(self.0.https).await.unwrap();
        connection.0.write_all(b"GET /v2/test HTTP/1.1\r\nAPI-Key: acme_").await.unwrap();
        "half of a request".to_owned()
    }

    /// A handshake that stops, or none.
    async fn silent(&self, says_hello: bool) -> String {
        let mut stream = TcpStream::connect(self.0.https).await.unwrap();
        if says_hello {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        }
        tokio::time::sleep(HELD).await;
        format!("a connection that says nothing for {HELD:?}")
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

struct Connection(Box<dyn Stream>);

impl Connection {
    async fn tls(address: SocketAddr) -> std::io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let stream =
            timeout(PATIENCE, tls::connector().connect("localhost".try_into().unwrap(), socket));
        Ok(Self(Box::new(stream.await.unwrap()?)))
    }

    /// The status of the answer; `None` when the server closed the connection. Panics at a 5xx and at silence.
    async fn ask(&mut self, request: &[u8]) -> Option<u16> {
        timeout(PATIENCE, self.answer(request)).await.unwrap()
    }

    async fn answer(&mut self, request: &[u8]) -> Option<u16> {
        let (mut from, mut to) = tokio::io::split(&mut self.0);
        // What the server does not want to read, it may refuse before all of it is written.
        let writing = async {
            let _ = to.write_all(request).await;
            let _ = to.flush().await;
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut answer = Vec::with_capacity(1_024);
            while from.read_buf(&mut answer).await.is_ok_and(|length| length > 0) {
                if let Some(status) = status(&answer) {
                    return Some(status);
                }
            }
            None
        };
        tokio::select! { biased; status = reading => status, () = writing => None }
    }
}

/// The status of an answer, once it is there as a whole. Panics at a 5xx.
fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status < 500, "{head}");
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    (body.len() >= length.map_or(0, |length| length.parse().unwrap())).then_some(status)
}

struct Keys {
    valid: String,
    mistyped: String,
    deleted: String,
}

/// A key as they look here, of another service.
async fn unknown() -> String {
    let elsewhere = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let account = "admin@example.com".parse().unwrap();
    let new = NewKey::new("soak".parse().unwrap());
    elsewhere.create(&account, new).await.unwrap().reveal().as_str().to_owned()
}

struct Address {
    https: SocketAddr,
    http: SocketAddr,
    keys: Keys,
}

struct Server {
    process: Child,
    address: Arc<Address>,
}

impl std::ops::Deref for Server {
    type Target = Address;

    fn deref(&self) -> &Address {
        &self.address
    }
}

impl Server {
    fn start(folder: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.env(SERVE, folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (https, http) = (line().parse().unwrap(), line().parse().unwrap());
        let (valid, deleted) = (line(), line());
        let last = if valid.ends_with('0') { '1' } else { '0' };
        let mistyped = format!("{}{last}", &valid[..valid.len() - 1]);
        let keys = Keys { valid, mistyped, deleted };
        Self { process, address: Arc::new(Address { https, http, keys }) }
    }

    /// In KiB.
    fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serve(folder: &str) {
    tracing_subscriber::fmt().with_writer(std::io::sink).init();
    let store = SqliteStore::open(format!("{folder}/keys.db")).await.unwrap();
    let store = CachedStore::alone(store, CacheSettings::default());
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let account: AccountId = "admin@example.com".parse().unwrap();
    let make =
        async || manager.create(&account, NewKey::new("soak".parse().unwrap())).await.unwrap();
    let (valid, deleted) = (make().await, make().await);
    manager.delete(&account, &deleted.record().id).await.unwrap();
    let usage = Usage::collect(store.clone(), UsageSettings::default());
    let layer = ApiKeyLayer::new(store).with_transport(Transport::tls()).with_usage(&usage);
    let router =
        protect(Router::new().route("/v2/test", get(async || "The API key is valid.")), layer);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();

    let listen = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        (listener.local_addr().unwrap(), axum_server::from_tcp(listener).unwrap())
    };
    let ((https, with_tls), (http, plain)) = (listen(), listen());
    let config = axum_server::tls_rustls::RustlsConfig::from_config(tls::server());
    let with_tls = with_tls.acceptor(AxumServerAcceptor::new(config));
    let mut out = std::io::stdout();
    writeln!(out, "{https}\n{http}\n{}\n{}", valid.reveal().as_str(), deleted.reveal().as_str())
        .unwrap();
    out.flush().unwrap();
    let (with_tls, plain) = tokio::join!(with_tls.serve(service.clone()), plain.serve(service));
    with_tls.and(plain).unwrap();
}
