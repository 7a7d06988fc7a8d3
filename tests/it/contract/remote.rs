//! The stores that are servers, each directly, through what people put in between, and behind a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tower_api_key::store::contract::{
    Handles, Subject, a_delete_is_seen_between_stores, changes_can_be_followed_between_stores,
    check, old_and_new_secrets_never_both_live, the_cap_holds_between_stores,
    the_first_key_is_made_once_between_stores, the_roll_is_kept_between_stores,
};
use tower_api_key::{
    CacheSettings, CachedStore, KeyRegistry, MemoryStore, PostgresOptions, PostgresStore,
    RedisOptions, RedisStore, SharedRegistry, SqliteStore, store_contract,
};

use crate::servers::folder::Folder;
use crate::servers::{PgBouncer, Postgres, Redis};

/// The machine may have much else to do; the limits have tests of their own.
const LIMIT: Duration = Duration::from_secs(30);

async fn to_postgres(url: &str, connections: u32) -> PostgresStore {
    let options = PostgresOptions::new(url).unwrap().with_time_limit(LIMIT);
    let options = options.with_verification_connections(connections);
    options.with_management_connections(connections).connect().await.unwrap()
}

async fn postgres() -> Option<PostgresStore> {
    let server = Postgres::shared()?;
    Some(to_postgres(&server.fresh_database().await, 8).await)
}

/// A namespace that nobody else has.
fn namespace() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("contract-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

async fn to_redis(server: &Redis, namespace: &str) -> RedisStore {
    let options = RedisOptions::new(server.url(0)).with_namespace(namespace).unwrap();
    options.with_time_limit(LIMIT).connect().await.unwrap()
}

async fn redis() -> Option<RedisStore> {
    Some(to_redis(Redis::shared()?, &namespace()).await)
}

fn cached(store: impl KeyRegistry) -> Subject {
    Subject::new(CachedStore::alone(store, CacheSettings::default()))
}

store_contract!(postgres_itself, async || postgres().await.map(Subject::new));

store_contract!(postgres_through_a_pooler, async || {
    let server = Postgres::shared()?;
    let pooler = PgBouncer::start(server)?;
    let store = to_postgres(&pooler.url(&server.new_database().await), 8).await;
    Some(Subject::new(store).keeping(pooler))
});

store_contract!(postgres_through_three_processes, async || {
    let url = Postgres::shared()?.fresh_database().await;
    let mut stores: Vec<Arc<dyn KeyRegistry>> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(to_postgres(&url, 3).await));
    }
    Some(Subject::new(Handles::new(stores)))
});

store_contract!(redis_itself, async || redis().await.map(Subject::new));

store_contract!(cached_memory, async || cached(MemoryStore::new()));

store_contract!(cached_sqlite, async || {
    let folder = Folder::new();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    cached(store).keeping(folder)
});

store_contract!(cached_postgres, async || postgres().await.map(cached));

store_contract!(cached_redis, async || redis().await.map(cached));

#[test]
fn postgres_and_redis_replace_in_one_step() {
    let to_postgres = async || postgres().await.map(Subject::new);
    check(to_postgres, old_and_new_secrets_never_both_live);
    let to_redis = async || redis().await.map(Subject::new);
    check(to_redis, old_and_new_secrets_never_both_live);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_roll() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let mut stores: Vec<Arc<dyn SharedRegistry>> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(to_postgres(&url, 2).await));
    }
    the_roll_is_kept_between_stores(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_roll() {
    let Some(server) = Redis::shared() else { return };
    let namespace = namespace();
    let mut stores: Vec<Arc<dyn SharedRegistry>> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(to_redis(server, &namespace).await));
    }
    the_roll_is_kept_between_stores(&stores).await;
}

/// A round is 64 calls at once, each by a store with connections of its own.
const RACERS: usize = 64;

async fn race(stores: &[Arc<dyn KeyRegistry>]) {
    the_cap_holds_between_stores(stores, 1_000).await;
    the_first_key_is_made_once_between_stores(stores, 20).await;
    a_delete_is_seen_between_stores(stores, 20).await;
    changes_can_be_followed_between_stores(&stores[..8], 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_the_promises_between_64_processes() {
    let Some(server) = Postgres::options().setting("max_connections", "200").start() else {
        return;
    };
    let url = server.fresh_database().await;
    let mut stores: Vec<Arc<dyn KeyRegistry>> = Vec::new();
    for _ in 0..RACERS {
        stores.push(Arc::new(to_postgres(&url, 1).await));
    }
    race(&stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_promises_between_64_processes() {
    let Some(server) = Redis::shared() else { return };
    let namespace = namespace();
    let mut stores: Vec<Arc<dyn KeyRegistry>> = Vec::new();
    for _ in 0..RACERS {
        stores.push(Arc::new(to_redis(server, &namespace).await));
    }
    race(&stores).await;
}
