//! A lookup in SQLite beside the bare driver's query for the same row, and creations per second:
//! `cargo bench --bench sqlite`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

#[allow(unreachable_pub, dead_code, reason = "shared by the benchmarks")]
mod report;

use std::time::Instant;

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};
use tower_api_key::{AccountId, KeyManager, KeyStore as _, NewKey, SqliteStore};

const KEYS: u32 = 1_000;

fn main() {
    report::forget();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let store = runtime.block_on(SqliteStore::open(&path)).unwrap();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_limit(usize::MAX);
    let account: AccountId = "admin@example.com".parse().unwrap();

    let started = Instant::now();
    let mut fingerprint = None;
    for _ in 0..KEYS {
        let new = NewKey::new("Production CRM".parse().unwrap());
        let issued = runtime.block_on(manager.create(&account, new)).unwrap();
        fingerprint = Some(issued.record().fingerprint());
    }
    let creations = f64::from(KEYS) / started.elapsed().as_secs_f64();
    let fingerprint = fingerprint.unwrap();

    // The same settings, the same row, nothing of this crate.
    let options = SqliteConnectOptions::new().filename(&path).pragma("query_only", "ON");
    let pool = SqlitePoolOptions::new().max_connections(4).test_before_acquire(false);
    let pool = runtime.block_on(pool.connect_with(options)).unwrap();
    let bare = || {
        let pool = pool.clone();
        async move {
            let row: Option<SqliteRow> =
                sqlx::query("SELECT * FROM secrets WHERE fingerprint = ?1")
                    .bind(fingerprint.as_bytes().as_slice())
                    .fetch_optional(&pool)
                    .await
                    .unwrap();
            assert_eq!(row.unwrap().get::<&[u8], _>(0), fingerprint.as_bytes());
        }
    };

    let mut criterion = report::criterion();
    for round in ["first", "second"] {
        criterion.bench_function(&format!("bare_{round}"), |bencher| {
            bencher.iter(|| runtime.block_on(bare()));
        });
        criterion.bench_function(&format!("find_{round}"), |bencher| {
            bencher.iter(|| assert!(runtime.block_on(store.find(fingerprint)).unwrap().is_some()));
        });
    }
    println!();
    for round in ["first", "second"] {
        let (find, bare) = (format!("find_{round}"), format!("bare_{round}"));
        report::ratio("find, beside the bare driver's query", &find, &bare, "aim 1.3");
    }
    println!("creations, one after the other, each on the disk {creations:>17.0} per second");
}
