//! What it costs that a deleted key is dead on every replica: how long a deletion takes among three of
//! them, healthy and with a dead one, what a lookup pays, and what the store has to do when nothing
//! happens: `cargo bench --bench replicas`. Starts its own PostgreSQL and Redis, both of which write
//! through to the disk.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark")]

#[allow(
    unused,
    unreachable_pub,
    clippy::expect_used,
    clippy::allow_attributes_without_reason,
    reason = "shared with the tests"
)]
#[path = "../tests/it/servers/mod.rs"]
mod servers;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use sqlx::Connection as _;
use tokio::runtime::Runtime;
use tower_api_key::{
    AccountId, CacheSettings, CachedStore, Fingerprint, KeyManager, KeyStore as _, MemoryStore,
    NewKey, PostgresStore, RedisStore, ReplicaId, SharedRegistry, SqliteStore,
};

type Shared = Arc<dyn SharedRegistry>;
type Replica = CachedStore<Shared>;

const REPLICAS: usize = 3;
const ROUNDS: usize = 500;
const HITS: u32 = 50_000;
const DELETIONS: usize = 500;
const DELETIONS_BESIDE_A_DEAD_ONE: usize = 10;
const AT_REST: Duration = Duration::from_secs(10);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    lookups(&runtime);
    println!();
    let memory: Shared = Arc::new(MemoryStore::new());
    deletions(&runtime, "memory", vec![memory; REPLICAS]);

    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path().join("keys.db"));
    deletions(&runtime, "sqlite", three(|| Arc::new(runtime.block_on(open()).unwrap())));

    if let Some(server) = servers::Postgres::options().durable().start() {
        let url = runtime.block_on(server.fresh_database());
        let connect = || PostgresStore::connect(&url);
        let stores = three(|| Arc::new(runtime.block_on(connect()).unwrap()));
        let replicas = deletions(&runtime, "postgres", stores);
        at_rest("postgres", "transactions", &replicas, || {
            runtime.block_on(async {
                let commits = "SELECT pg_stat_force_next_flush();
                     SELECT xact_commit::text FROM pg_stat_database
                     WHERE datname = current_database()";
                let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
                let rows = sqlx::raw_sql(commits).fetch_all(&mut connection).await.unwrap();
                sqlx::Row::get::<&str, _>(rows.last().unwrap(), 0).parse().unwrap()
            })
        });
        close(&runtime, replicas);
    }
    if let Some(server) = servers::Redis::start(&servers::Redis::DURABLE) {
        let url = server.fresh_database();
        let connect = || RedisStore::connect(&url);
        let stores = three(|| Arc::new(runtime.block_on(connect()).unwrap()));
        let replicas = deletions(&runtime, "redis", stores);
        at_rest("redis", "scripts", &replicas, || {
            let said = runtime.block_on(server.say("INFO commandstats"));
            let line = said.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
            line.split(['=', ',']).nth(1).unwrap().parse().unwrap()
        });
        close(&runtime, replicas);
    }
}

fn three(store: impl Fn() -> Shared) -> Vec<Shared> {
    (0..REPLICAS).map(|_| store()).collect()
}

/// A hit in memory where a lease is kept, and where none is needed, in turn: what else the machine does
/// then happens to both. Of each the quietest tenth counts.
fn lookups(runtime: &Runtime) {
    let store = MemoryStore::new();
    let key = create(runtime, &KeyManager::new(store.clone(), "acme".parse().unwrap()));
    let alone = CachedStore::alone(store.clone(), CacheSettings::default());
    let shared = runtime.block_on(CachedStore::shared(store, CacheSettings::default()));
    let hits = |cache: &CachedStore<MemoryStore>| {
        // Once in a while it has aged, or there was no lease for a moment.
        runtime.block_on(cache.find(key)).unwrap();
        let began = Instant::now();
        for _ in 0..HITS {
            let _ = black_box(cache.find(black_box(key)).now_or_never());
        }
        began.elapsed()
    };
    let (mut without, mut with): (Vec<_>, Vec<_>) =
        (0..ROUNDS).map(|_| (hits(&alone), hits(&shared))).unzip();
    let quiet = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 10].as_secs_f64() * 1e9 / f64::from(HITS)
    };
    let (without, with) = (quiet(&mut without), quiet(&mut with));
    println!(
        "a hit {without:.1} ns, with a lease that is kept {with:.1} ns: {:.2} x, aim 1.1",
        with / without
    );
}

fn create(runtime: &Runtime, manager: &KeyManager) -> Fingerprint {
    let account: AccountId = "admin@example.com".parse().unwrap();
    let new = NewKey::new("Production CRM".parse().unwrap());
    let issued = runtime.block_on(manager.create(&account, new)).unwrap();
    issued.record().fingerprint()
}

/// How long deletions take until the key is dead everywhere.
fn deletions(runtime: &Runtime, name: &str, stores: Vec<Shared>) -> Vec<Replica> {
    let bare = Arc::clone(&stores[0]);
    let replicas: Vec<_> = stores
        .into_iter()
        .map(|store| runtime.block_on(CachedStore::shared(store, CacheSettings::default())))
        .collect();
    let prefix = || "acme".parse().unwrap();
    let everywhere = KeyManager::new(replicas[0].clone(), prefix());
    let here = everywhere.clone().without_settling();
    report_times(name, "without waiting for the others", times(runtime, &here, DELETIONS));
    report_times(name, "dead everywhere", times(runtime, &everywhere, DELETIONS));
    let beside_a_dead_one = (0..DELETIONS_BESIDE_A_DEAD_ONE).flat_map(|number| {
        let dead = ReplicaId::from_bytes([u8::try_from(number).unwrap() + 1; 16]);
        runtime.block_on(bare.enrol(dead)).unwrap();
        let took = times(runtime, &everywhere, 1);
        runtime.block_on(bare.withdraw(&[dead])).unwrap();
        took
    });
    report_times(name, "dead everywhere, beside a dead replica", beside_a_dead_one.collect());
    replicas
}

fn times(runtime: &Runtime, manager: &KeyManager, many: usize) -> Vec<Duration> {
    let account: AccountId = "admin@example.com".parse().unwrap();
    let new = || NewKey::new("Production CRM".parse().unwrap());
    // Not waited for: whatever is still to be heard of it belongs to the deletion.
    let making = manager.clone().without_settling();
    runtime.block_on(async {
        let mut took = Vec::new();
        for _ in 0..many {
            let issued = making.create(&account, new()).await.unwrap();
            let began = Instant::now();
            manager.delete(&account, &issued.record().id).await.unwrap();
            took.push(began.elapsed());
        }
        took
    })
}

fn report_times(name: &str, what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "{name:<9} {what:<40} p50 {:>8.1?}  p99 {:>8.1?}  max {:>8.1?}  of {}",
        at(50),
        at(99),
        at(100),
        took.len()
    );
}

/// What the store does for replicas that do nothing.
fn at_rest(name: &str, what: &str, replicas: &[Replica], count: impl Fn() -> u64) {
    // What was done before is counted late.
    std::thread::sleep(AT_REST);
    let before = count();
    std::thread::sleep(AT_REST);
    #[allow(clippy::cast_precision_loss, reason = "a count of some seconds' work")]
    let each = (count() - before) as f64 / AT_REST.as_secs_f64() / replicas.len() as f64;
    println!("{name:<9} at rest, {what} a second and replica: {each:.1}");
}

fn close(runtime: &Runtime, replicas: Vec<Replica>) {
    for replica in replicas {
        runtime.block_on(replica.close());
    }
}
