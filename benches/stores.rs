//! What a lookup that has to ask costs in each store, beside the bare driver's query for the same
//! row, and how many keys a second each makes: `cargo bench --bench stores`. Starts its own
//! PostgreSQL and Redis, both of which write through to the disk.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, reason = "shared by the benchmarks")]
mod report;
#[allow(
    unused,
    unreachable_pub,
    clippy::expect_used,
    clippy::allow_attributes_without_reason,
    reason = "shared with the tests"
)]
#[path = "../tests/it/servers/mod.rs"]
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Runtime;
use tower_api_key::{
    AccountId, Fingerprint, KeyManager, KeyRegistry, KeyStore as _, MemoryStore, NewKey,
    PostgresStore, RedisStore, SqliteStore,
};

/// How long keys are made to count them.
const CREATING: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 16;

fn main() {
    report::forget();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut criterion = report::criterion();
    let folder = tempfile::tempdir().unwrap();
    let sqlite = runtime.block_on(SqliteStore::open(folder.path().join("keys.db"))).unwrap();
    let mut lines = Vec::new();
    let mut run = |criterion: &mut Criterion, name: &str, store: Arc<dyn KeyRegistry>| {
        let (fingerprint, line) = create(&runtime, name, &store);
        lines.push(line);
        find(criterion, &runtime, name, &store, fingerprint);
        fingerprint
    };
    run(&mut criterion, "memory", Arc::new(MemoryStore::new()));
    run(&mut criterion, "sqlite", Arc::new(sqlite));

    if let Some(server) = servers::Postgres::options().durable().start() {
        let url = runtime.block_on(server.fresh_database());
        let store = runtime.block_on(PostgresStore::connect(&url)).unwrap();
        let key = run(&mut criterion, "postgres", Arc::new(store));
        bare_postgres(&mut criterion, &runtime, &url, key);
    }
    if let Some(server) = servers::Redis::start(&servers::Redis::DURABLE) {
        let url = server.fresh_database();
        let store = runtime.block_on(RedisStore::connect(&url)).unwrap();
        run(&mut criterion, "redis", Arc::new(store));
        bare_redis(&mut criterion, &runtime, &url);
    }

    println!();
    for (store, bare, aim) in [
        ("postgres", "a prepared query on one bare connection", "aim 1.3"),
        ("redis", "a bare HGETALL on one connection", "aim 1.3"),
    ] {
        let what = format!("{store}: find, beside {bare}");
        report::ratio(&what, &format!("{store}_find"), &format!("{store}_bare"), aim);
    }
    for store in ["memory", "sqlite", "postgres", "redis"] {
        if let Some(time) = report::quiet(&format!("{store}_find")) {
            println!("{store:<10} find {:>9.1} µs", time / 1000.0);
        }
    }
    for line in lines {
        println!("{line}");
    }
}

/// Makes keys, one after the other and then many at once.
fn create(runtime: &Runtime, name: &str, store: &Arc<dyn KeyRegistry>) -> (Fingerprint, String) {
    let manager = KeyManager::new(Arc::clone(store), "acme".parse().unwrap());
    let manager = manager.with_limit(usize::MAX);
    let new = || NewKey::new("Production CRM".parse().unwrap());
    let account: AccountId = "admin@example.com".parse().unwrap();
    let fingerprint = {
        let issued = runtime.block_on(manager.create(&account, new())).unwrap();
        issued.record().fingerprint()
    };
    let count = |workers: usize| {
        let started = Instant::now();
        let made: usize = runtime.block_on(async {
            let workers: Vec<_> = (0..workers)
                .map(|worker| {
                    let manager = manager.clone();
                    // An account has few keys, so that counting them is not what is measured.
                    tokio::spawn(async move {
                        let mut made = 0;
                        while started.elapsed() < CREATING {
                            let account = format!("{worker}-{}", made / 20).parse().unwrap();
                            let _ = manager.create(&account, new()).await.unwrap();
                            made += 1;
                        }
                        made
                    })
                })
                .collect();
            let mut made = 0;
            for worker in workers {
                made += worker.await.unwrap();
            }
            made
        });
        #[allow(clippy::cast_precision_loss, reason = "a count of seconds' work")]
        let rate = made as f64 / started.elapsed().as_secs_f64();
        rate
    };
    let line = format!(
        "{name:<10} keys made per second: {:>8.0} one after the other, {:>8.0} by {AT_ONCE} at once",
        count(1),
        count(AT_ONCE)
    );
    (fingerprint, line)
}

fn find(
    criterion: &mut Criterion,
    runtime: &Runtime,
    name: &str,
    store: &Arc<dyn KeyRegistry>,
    fingerprint: Fingerprint,
) {
    criterion.bench_function(&format!("{name}_find"), |bencher| {
        bencher.iter_custom(|times| {
            let store = Arc::clone(store);
            in_a_task(runtime, async move {
                let started = Instant::now();
                for _ in 0..times {
                    assert!(store.find(fingerprint).await.unwrap().is_some());
                }
                started.elapsed()
            })
        });
    });
}

/// As a server's requests run, and not on the thread that only waits.
fn in_a_task(runtime: &Runtime, work: impl Future<Output = Duration> + Send + 'static) -> Duration {
    runtime.block_on(runtime.spawn(work)).unwrap()
}

fn bare_postgres(criterion: &mut Criterion, runtime: &Runtime, url: &str, key: Fingerprint) {
    let connection = runtime.block_on(PgConnection::connect(url)).unwrap();
    let connection = Arc::new(tokio::sync::Mutex::new(connection));
    criterion.bench_function("postgres_bare", |bencher| {
        bencher.iter_custom(|times| {
            let connection = Arc::clone(&connection);
            in_a_task(runtime, async move {
                let mut connection = connection.lock().await;
                let started = Instant::now();
                for _ in 0..times {
                    let row =
                        sqlx::query("SELECT * FROM tower_api_key.secrets WHERE fingerprint = $1")
                            .bind(key.as_bytes().to_vec())
                            .fetch_optional(&mut *connection)
                            .await
                            .unwrap();
                    assert!(row.is_some());
                }
                started.elapsed()
            })
        });
    });
}

fn bare_redis(criterion: &mut Criterion, runtime: &Runtime, url: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut connection = runtime.block_on(client.get_multiplexed_async_connection()).unwrap();
    // A hash as large as a secret's.
    let fields: Vec<(String, String)> =
        (0..10).map(|number| (format!("field-{number}"), "x".repeat(16))).collect();
    let mut set = redis::cmd("HSET");
    set.arg("bare").arg(&fields);
    runtime.block_on(set.exec_async(&mut connection)).unwrap();
    criterion.bench_function("redis_bare", |bencher| {
        bencher.iter_custom(|times| {
            let mut connection = connection.clone();
            in_a_task(runtime, async move {
                let started = Instant::now();
                for _ in 0..times {
                    let mut get = redis::cmd("HGETALL");
                    let row: Vec<String> =
                        get.arg("bare").query_async(&mut connection).await.unwrap();
                    assert_eq!(row.len(), 20);
                }
                started.elapsed()
            })
        });
    });
}
