//! A whole service behind API keys: `cargo run --example server`.
//!
//! HTTPS on one port; a plain port beside it that refuses every call, to show the rule. The keys are
//! in a SQLite file, unless `--store` says otherwise. On the first start it prints the account's first key, once, and a `curl` line.
//!
//! ```text
//! GET    /v2/test             is my key valid, and for which account?
//! GET    /v2/bookings         ?limit=&after=&last_updated_time.gt=
//! GET    /v2/webhooks         POST makes one
//! GET    /v2/webhooks/{id}    DELETE removes it
//! /console/                   the page on which the account's owner manages its keys, behind a password:
//!                             ADMIN_PASSWORD, or one that is made at each start, and printed;
//!                             POST /console/sign-in (form field `password`) sets its cookie
//! POST   /mcp                 GET, DELETE: an MCP server; Authorization: Bearer works there too
//! GET    /openapi.json        the calls with a key, and those of the console, described
//! ```
//!
//! `--help` lists the flags.

mod api;
mod bookings;
mod certificate;
mod console;
mod failure;
mod flags;
mod mcp;
mod openapi;
mod webhooks;

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use clap::Parser as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tower_api_key::axum::protect;
use tower_api_key::tls::AxumServerAcceptor;
use tower_api_key::{
    AccountId, ApiKeyLayer, CacheSettings, CachedStore, Environment, KeyManager, KeyRegistry,
    MemoryStore, NewKey, PostgresStore, Principal, RedisStore, SharedRegistry, SqliteStore,
    Transport, TrustedProxies, Usage, UsageSettings,
};
use tracing_subscriber::EnvFilter;

use crate::console::Password;
use crate::flags::{Cache, Flags, Store};
use crate::mcp::{Mcp, Names};
use crate::webhooks::Webhooks;

/// How long requests may go on after SIGTERM.
const DRAIN: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    match run(Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            let mut cause = failure.source();
            while let Some(reason) = cause {
                eprintln!("  because: {reason}");
                cause = reason.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Failure> {
    flags::make_private_folder(&flags.data_dir)?;
    let mut proxies = TrustedProxies::x_forwarded_proto(&flags.trusted_proxy)?;
    if flags.x_forwarded_for {
        proxies = proxies.with_x_forwarded_for();
    }
    let webhooks = Webhooks::open(flags.webhooks_file())?;
    let certificate = certificate::load_or_make(&flags)?;

    // Bound before the first key is made: a port in use must not cost the only sight of the key. And before
    // the other servers hear of this one, and wait for it.
    let https = listen(flags.https_addr)?;
    let http = listen(flags.http_addr)?;

    let Opened { store, file } = open(&flags.store()).await?;
    let settings = CacheSettings::default();
    let cached = match flags.cache {
        // What any of the servers that share the store deletes is dead in all of them.
        Some(Cache::Shared) => Some(CachedStore::shared(Arc::clone(&store), settings).await),
        Some(Cache::Alone) => Some(CachedStore::alone(Arc::clone(&store), settings)),
        None => None,
    };
    let store: Arc<dyn KeyRegistry> = match &cached {
        Some(cached) => Arc::new(cached.clone()),
        None => Arc::new(store),
    };
    let base = format!("https://{}", reachable(https.local_addr()?));
    println!("https://{}", https.local_addr()?);
    println!("http://{}", http.local_addr()?);

    let account: AccountId = "admin@example.com".parse()?;
    let live: Environment = "live".parse()?;
    let manager =
        KeyManager::new(Arc::clone(&store), "acme".parse()?).with_environments([live.clone()]);
    show_first_key(&manager, &account, &base, &certificate.path).await?;
    let password = console_password(&base)?;
    // No call of this server asks for a scope.
    let owner =
        Principal::new(account).with_actor("somebody at the console".parse()?).with_any_scope();

    // One service behind one layer, with a rule for each port.
    let names = Names::new(https.local_addr()?, http.local_addr()?, flags.public_host);
    let mcp = Mcp::new(&webhooks, Arc::clone(&store), &names);
    let usage = Usage::collect(Arc::clone(&store), UsageSettings::default());
    let layer = ApiKeyLayer::new(store).with_environment(live).with_usage(&usage);
    let api = api::router(webhooks);
    let behind_tls = protected(&api, &mcp, layer.clone().with_transport(Transport::tls()));
    // The console is open, to be signed in to; everything else is not.
    let on_https = console::router(manager, owner, password).fallback_service(behind_tls);
    let behind_proxy = protected(&api, &mcp, layer.with_transport(Transport::behind(proxies)));

    let handle = Handle::new();
    let stop = stop_signals()?;
    tokio::spawn(drain_when(stop, handle.clone(), mcp));
    println!("ready");
    tokio::try_join!(
        serve_https(https, certificate.config, on_https, handle.clone()),
        serve_http(http, behind_proxy, handle),
    )?;
    usage.close().await;
    if let Some(cached) = cached {
        // So that no other server's deletion waits for this one.
        cached.close().await;
    }
    if let Some(file) = file {
        file.close().await;
    }
    Ok(())
}

/// Every path is behind the layer; only MCP clients may send the key as a bearer token.
fn protected(api: &Router, mcp: &Mcp, layer: ApiKeyLayer) -> Router {
    Router::new()
        .route_service("/mcp", protect(mcp.router(), layer.clone().with_bearer()))
        .fallback_service(protect(api.clone(), layer))
}

/// A store, and the file behind it if there is one to close.
struct Opened {
    store: Arc<dyn SharedRegistry>,
    file: Option<SqliteStore>,
}

async fn open(store: &Store) -> Result<Opened, Failure> {
    Ok(match store {
        Store::Memory => Opened { store: Arc::new(MemoryStore::new()), file: None },
        Store::Sqlite(path) => {
            let file = SqliteStore::open(path).await?;
            Opened { store: Arc::new(file.clone()), file: Some(file) }
        }
        Store::Postgres(url) => {
            Opened { store: Arc::new(PostgresStore::connect(url).await?), file: None }
        }
        Store::Redis(url) => {
            Opened { store: Arc::new(RedisStore::connect(url).await?), file: None }
        }
    })
}

async fn show_first_key(
    manager: &KeyManager,
    account: &AccountId,
    base: &str,
    certificate: &Path,
) -> Result<(), Failure> {
    let new = NewKey::new("First key".parse()?).with_environment("live".parse()?);
    let Some(issued) = manager.create_first(account, new).await? else {
        println!("The first API key of {account} was shown when it was made, and cannot be again.");
        return Ok(());
    };
    let certificate = certificate.display().to_string().replace('\'', r"'\''");
    let shown = issued.reveal();
    let key = shown.as_str();
    writeln!(
        std::io::stdout(),
        "The first API key of {account} is in this line, and is shown only now:\n\
         curl --cacert '{certificate}' -H 'API-Key: {key}' {base}/v2/test"
    )
    .map_err(|error| format!("the first key was made and could not be shown, so it is of no use ({error}): remove the data folder and start again").into())
}

/// The password that was set, or a new one, which lasts as long as the process: nothing of it is kept.
fn console_password(base: &str) -> Result<Password, Failure> {
    println!("The console is at {base}/console/");
    if let Some(set) = std::env::var("ADMIN_PASSWORD").ok().filter(|set| !set.is_empty()) {
        return Ok(Password::new(&set));
    }
    let (password, text) = Password::made()?;
    println!("The console's password, shown only now: {text}");
    Ok(password)
}

/// Where a client on this machine finds a listener: 0.0.0.0 is every address, and none.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve_https(
    listener: TcpListener,
    config: RustlsConfig,
    service: Router,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let server = axum_server::from_tcp(listener)?.acceptor(AxumServerAcceptor::new(config));
    let mut server = server.handle(handle);
    end_slow_headers(server.http_builder());
    server.serve(service.into_make_service()).await
}

async fn serve_http(
    listener: TcpListener,
    service: Router,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?.handle(handle);
    end_slow_headers(server.http_builder());
    server.serve(service.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// A connection on which no whole head of a request arrives is closed: it needs no key, and would hold up
/// the end of the server.
fn end_slow_headers(builder: &mut Builder<TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
}

/// SIGTERM and Ctrl-C, taken from here on.
fn stop_signals() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

/// Requests under way are answered; new ones are not taken.
async fn drain_when(
    [mut terminate, mut interrupt]: [Signal; 2],
    handle: Handle<SocketAddr>,
    mcp: Mcp,
) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
    mcp.end_standing_streams();
    handle.graceful_shutdown(Some(DRAIN));
}
