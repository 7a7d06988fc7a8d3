//! What the layer costs a whole server: CPU time per request over TLS, with the layer and without it,
//! for each store behind its cache: `cargo bench --bench server`.
//!
//! The server is this program again, in a process of its own, so that its time is counted apart from
//! the client's. It serves the example server's bookings twice: as the example does, and on another
//! port without the layer. The two are asked in turn, in short rounds, so that what else the machine
//! does falls on both alike, and are of one process, so that they share what luck has made of it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, missing_docs, reason = "the example's own")]
#[path = "../examples/server/bookings.rs"]
mod bookings;
#[allow(unreachable_pub, dead_code, missing_docs, reason = "the example's own")]
#[path = "../examples/server/failure.rs"]
mod failure;
#[allow(
    unused,
    unreachable_pub,
    clippy::expect_used,
    clippy::allow_attributes_without_reason,
    reason = "shared with the tests"
)]
#[path = "../tests/it/servers/mod.rs"]
mod servers;

#[path = "loopback/tls.rs"]
mod tls;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower_api_key::axum::protect;
use tower_api_key::tls::AxumServerAcceptor;
use tower_api_key::{
    AccountId, ApiKeyLayer, CacheSettings, CachedStore, KeyManager, KeyRegistry, MemoryStore,
    NewKey, PostgresStore, RedisStore, SqliteStore, Transport,
};

/// In the environment of the server's process: which store it is to use.
const SERVE: &str = "BENCH_SERVE";

/// In each round.
const REQUESTS: u32 = 500;
const ROUNDS: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Ok(store) = std::env::var(SERVE) {
        runtime.block_on(serve(&store));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let postgres = servers::Postgres::options().durable().start();
    let redis = servers::Redis::start(&servers::Redis::DURABLE);
    let mut stores = vec![
        ("memory", "memory:".to_owned()),
        ("sqlite", format!("sqlite:{}", folder.path().join("keys.db").display())),
    ];
    if let Some(server) = &postgres {
        stores.push(("postgres", runtime.block_on(server.fresh_database())));
    }
    if let Some(server) = &redis {
        stores.push(("redis", server.fresh_database()));
    }
    println!("CPU time per request over TLS, the median of {ROUNDS} rounds of {REQUESTS} requests");
    for (name, url) in &stores {
        let server = Server::start(url);
        let (with, without) = runtime.block_on(server.microseconds_per_request());
        println!(
            "{name:<10} without the layer {without:>6.2} µs, with it {with:>6.2} µs: {:.3} of the requests per CPU second  aim 0.97",
            without / with
        );
    }
}

/// The server, and a key that opens it.
struct Server {
    process: Child,
    protected: SocketAddr,
    open: SocketAddr,
    key: String,
}

impl Server {
    fn start(store: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        let mut process = command.env(SERVE, store).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (protected, open) = (line().parse().unwrap(), line().parse().unwrap());
        Self { process, protected, open, key: line() }
    }

    /// With the layer, and without it.
    async fn microseconds_per_request(&self) -> (f64, f64) {
        let request = format!(
            "GET /v2/bookings?limit=1 HTTP/1.1\r\nHost: localhost\r\nAPI-Key: {}\r\n\r\n",
            self.key
        );
        let mut ways = [
            (Client::connect(self.protected).await, Vec::new()),
            (Client::connect(self.open).await, Vec::new()),
        ];
        for round in 0..ROUNDS + 10 {
            for (client, spent) in &mut ways {
                let before = self.cpu_nanoseconds();
                for _ in 0..REQUESTS {
                    client.ask(&request).await;
                }
                let nanoseconds = u32::try_from(self.cpu_nanoseconds() - before).unwrap();
                // The first are to warm up.
                if round >= 10 {
                    spent.push(f64::from(nanoseconds) / 1000.0 / f64::from(REQUESTS));
                }
            }
        }
        let [with, without] = ways.map(|(_, mut spent)| {
            spent.sort_by(f64::total_cmp);
            spent[spent.len() / 2]
        });
        (with, without)
    }

    /// What the process's threads have spent on a CPU, as the scheduler counts it.
    fn cpu_nanoseconds(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let spent = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        spent.sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection, on which one request follows the other.
struct Client(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let connector = tls::connector();
        Self(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap())
    }

    async fn ask(&mut self, request: &str) {
        let mut buffer = vec![0; 16 * 1024];
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut read = 0;
        while read == 0 || !is_whole(&buffer[..read]) {
            let more = self.0.read(&mut buffer[read..]).await.unwrap();
            assert!(more > 0, "the server closed the connection");
            read += more;
        }
    }
}

/// Whether an answer has come whole; it must be a 200.
fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    assert!(text.starts_with(&"HTTP/1.1 200"[..text.len().min(12)]), "{text}");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length: Option<usize> = head.lines().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
    });
    body.len() == length.unwrap_or_else(|| panic!("no length: {head}"))
}

/// Serves the bookings; says where, with the layer and without, and which key opens them.
async fn serve(store: &str) {
    let store = CachedStore::alone(open(store).await, CacheSettings::default());
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let account: AccountId = "admin@example.com".parse().unwrap();
    let issued = manager.create(&account, NewKey::new("bench".parse().unwrap())).await.unwrap();
    let api = || Router::new().route("/v2/bookings", get(bookings::list));
    let layer = ApiKeyLayer::new(store).with_transport(Transport::tls());
    let (protected, with) = listen();
    let (unprotected, without) = listen();
    let mut out = std::io::stdout();
    writeln!(out, "{protected}\n{unprotected}\n{}", issued.reveal().as_str()).unwrap();
    out.flush().unwrap();
    let with = with.serve(protect(api(), layer).into_make_service());
    let (with, without) = tokio::join!(with, without.serve(api().into_make_service()));
    with.and(without).unwrap();
}

/// With the same acceptor for both: what is measured is the layer.
fn listen() -> (SocketAddr, axum_server::Server<SocketAddr, AxumServerAcceptor>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let config = axum_server::tls_rustls::RustlsConfig::from_config(tls::server());
    let server = axum_server::from_tcp(listener).unwrap();
    (address, server.acceptor(AxumServerAcceptor::new(config)))
}

async fn open(store: &str) -> Arc<dyn KeyRegistry> {
    match store.split_once(':').unwrap() {
        ("memory", _) => Arc::new(MemoryStore::new()),
        ("sqlite", path) => Arc::new(SqliteStore::open(path).await.unwrap()),
        ("postgres", _) => Arc::new(PostgresStore::connect(store).await.unwrap()),
        _ => Arc::new(RedisStore::connect(store).await.unwrap()),
    }
}
