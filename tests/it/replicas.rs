//! Several replicas over one store: what one of them deletes is dead on all of them when that returns.

mod held;
mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tower_api_key::store::LEASE;
use tower_api_key::{
    CacheSettings, CachedStore, Entry, Found, KeyManager, KeyRecord, KeyRegistry as _,
    KeyStore as _, MemoryStore, PostgresOptions, PostgresStore, RedisOptions, RedisStore,
    ReplicaId, SharedRegistry, SqliteStore, Written,
};

use crate::servers::folder::Folder;
use crate::servers::{PgBouncer, Postgres, Redis};
use crate::support::{account, named, record, soon, time};

type Shared = Arc<dyn SharedRegistry>;
type Replica = CachedStore<Shared>;

/// A store whose time limit is not what is asked about, on a machine that is busy with other tests.
async fn patient(url: &str) -> PostgresStore {
    let options = PostgresOptions::new(url).unwrap().with_time_limit(Duration::from_secs(30));
    options.connect().await.unwrap()
}

async fn replicas(stores: Vec<Shared>) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for store in stores {
        replicas.push(CachedStore::shared(store, CacheSettings::default()).await);
    }
    for replica in &replicas {
        has_a_lease(replica).await;
    }
    replicas
}

/// A machine that is busy with other tests may let one run out; it comes back.
async fn has_a_lease(replica: &Replica) {
    soon(async {
        while replica.status().unwrap().lease.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn is_live(replica: &Replica, record: &KeyRecord) -> bool {
    matches!(replica.find(record.fingerprint()).await.unwrap(), Some(Entry::Live(_)))
}

async fn insert(replica: &Replica, record: KeyRecord) -> Arc<KeyRecord> {
    let record = Arc::new(record);
    assert_eq!(replica.insert(Arc::clone(&record), 1000).await.unwrap(), Written::Done(()));
    record
}

/// What this replica says without asking anybody.
fn from_memory(replica: &Replica, record: &KeyRecord) -> Option<Found> {
    replica.find(record.fingerprint()).now_or_never()
}

/// Every promise, over stores that share one truth.
async fn deleted_means_dead(stores: Vec<Shared>, rounds: usize) {
    let store = Arc::clone(&stores[0]);
    let replicas = replicas(stores).await;
    let owner = account("a");
    let manager = KeyManager::new(replicas[0].clone(), "acme".parse().unwrap()).with_limit(1000);
    let mut took = Vec::new();
    for round in 0..rounds {
        let issued = manager.create(&owner, named("Production CRM")).await.unwrap();
        let record = Arc::new(issued.record().clone());
        for replica in &replicas {
            assert!(is_live(replica, &record).await, "made, but not known everywhere");
        }
        let deleted = Arc::new(AtomicBool::new(false));
        let checks: Vec<_> = replicas
            .iter()
            .flat_map(|replica| [replica, replica])
            .map(|replica| {
                let (replica, record) = (replica.clone(), Arc::clone(&record));
                let deleted = Arc::clone(&deleted);
                tokio::spawn(async move {
                    let mut after = 0;
                    while after < 100 {
                        let is_over = deleted.load(Ordering::SeqCst);
                        let live = is_live(&replica, &record).await;
                        assert!(!(is_over && live), "accepted after it was deleted");
                        after += usize::from(is_over);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let began = Instant::now();
        let by = KeyManager::new(replicas[round % replicas.len()].clone(), "acme".parse().unwrap());
        by.delete(&owner, &record.id).await.unwrap();
        took.push(began.elapsed());
        deleted.store(true, Ordering::SeqCst);
        for check in checks {
            soon(check).await.unwrap();
        }
    }
    took.sort();
    assert!(took[rounds / 2] < LEASE / 2, "nobody hears of writes: {:?}", took[rounds / 2]);
    println!("deleted everywhere: median {:.1?}, worst {:.1?}", took[rounds / 2], took[rounds - 1]);
    let latest = store.roll().await.unwrap().version;
    for replica in &replicas {
        has_a_lease(replica).await;
        let status = replica.status().unwrap();
        assert_eq!(status.applied, latest);
        assert!(status.is_connected && status.age.is_some() && status.last_change.is_some());
        replica.close().await;
    }
    assert!(store.roll().await.unwrap().replicas.is_empty(), "who has closed is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_means_dead_over_memory() {
    let store: Shared = Arc::new(MemoryStore::new());
    deleted_means_dead(vec![store; 4], 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_means_dead_over_one_sqlite_file() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(SqliteStore::open(&path).await.unwrap()));
    }
    deleted_means_dead(stores, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_means_dead_over_postgresql() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(patient(&url).await));
    }
    deleted_means_dead(stores, 50).await;
}

/// Where notifications do not come through, the replicas look by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_means_dead_behind_a_pooler() {
    let Some(server) = Postgres::shared() else { return };
    let Some(pooler) = PgBouncer::start(server) else { return };
    let name = server.new_database().await;
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(patient(&pooler.url(&name)).await));
    }
    deleted_means_dead(stores, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_means_dead_over_redis() {
    let Some(server) = Redis::shared() else { return };
    let url = server.fresh_database();
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..3 {
        let options = RedisOptions::new(url.clone()).with_time_limit(Duration::from_secs(20));
        stores.push(Arc::new(options.connect().await.unwrap()));
    }
    deleted_means_dead(stores, 50).await;
}

/// Of a replica that died without a word, the first two writes hear nothing; later ones do not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_replica_is_waited_for_twice_and_then_forgotten() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replicas = replicas(vec![Arc::clone(&store); 2]).await;
    store.enrol(ReplicaId::from_bytes([7; 16])).await.unwrap();
    let owner = account("a");
    let manager = KeyManager::new(replicas[0].clone(), "acme".parse().unwrap());
    let mut took = Vec::new();
    for _ in 0..4 {
        let began = Instant::now();
        drop(manager.create(&owner, named("x")).await.unwrap());
        took.push(began.elapsed());
    }
    assert!(took[..2].iter().all(|&took| took >= LEASE && took < LEASE * 2), "{took:?}");
    assert!(took[2..].iter().all(|&took| took < LEASE), "{took:?}");
    assert_eq!(store.roll().await.unwrap().replicas.len(), 2, "the others are still on the roll");
}

/// A replica whose task gets no time, as in a process that is stopped: by the time that a deletion
/// returns, it does not trust its memory any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_stopped_runs_out_before_a_deletion_returns() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replica = replicas(vec![Arc::clone(&store)]).await.remove(0);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (made, stopped) = tokio::sync::oneshot::channel();
    let shared = Arc::clone(&store);
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let other = CachedStore::shared(shared, CacheSettings::default()).await;
            let _ = made.send(other.clone());
            // Until the test has seen that it works.
            while wait.try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // Nothing runs in this runtime from here on.
            wait.recv().unwrap();
        });
    });
    let stopped: Replica = stopped.await.unwrap();
    let key = insert(&replica, record(&account("a"), time(0))).await;
    replica.settle().await;
    assert!(is_live(&stopped, &key).await);
    go.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(matches!(from_memory(&stopped, &key), Some(Ok(Some(Entry::Live(_))))));

    let began = Instant::now();
    assert_eq!(replica.delete(&key.account, &key.id, time(1)).await.unwrap(), Written::Done(()));
    let at_once = from_memory(&stopped, &key);
    assert!(matches!(at_once, Some(Ok(Some(Entry::Live(_))))), "this test sees what it is about");
    replica.settle().await;
    let took = began.elapsed();
    assert!(!is_live(&stopped, &key).await, "accepted after {took:?}");
    assert!(took < LEASE * 2, "{took:?}");
    assert_eq!(stopped.status().unwrap().lease, None);
    go.send(()).unwrap();
    drop(stopped);
    other.join().unwrap();
}

/// What one replica made is not unknown to another that had just been asked for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_works_everywhere_when_it_is_made() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replicas = replicas(vec![store; 2]).await;
    for _ in 0..100 {
        let key = record(&account("a"), time(0));
        assert!(replicas[1].find(key.fingerprint()).await.unwrap().is_none());
        assert!(matches!(from_memory(&replicas[1], &key), Some(Ok(None))), "that is in memory");
        let key = insert(&replicas[0], key).await;
        replicas[0].settle().await;
        assert!(is_live(&replicas[1], &key).await);
    }
}

/// Every way in which a key changes: what is in another replica's memory is not what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_changed_everywhere() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replicas = replicas(vec![store; 2]).await;
    let manager = KeyManager::new(replicas[0].clone(), "acme".parse().unwrap());
    let owner = account("a");
    let remembered = async |record: &KeyRecord| {
        assert!(is_live(&replicas[1], record).await);
        assert!(from_memory(&replicas[1], record).is_some(), "it is in memory");
    };
    let found = async |record: &KeyRecord| replicas[1].find(record.fingerprint()).await.unwrap();

    let key = manager.create(&owner, named("x")).await.unwrap().record().clone();
    remembered(&key).await;
    manager.rename(&owner, &key.id, "Staging".parse().unwrap()).await.unwrap();
    let Some(Entry::Live(renamed)) = found(&key).await else { panic!("renamed, and gone") };
    assert_eq!(renamed.name.as_str(), "Staging");

    remembered(&key).await;
    let new = manager.regenerate(&owner, &key.id).await.unwrap().record().clone();
    assert!(matches!(found(&key).await, Some(Entry::Ended(_))), "the old secret still works");
    assert!(matches!(found(&new).await, Some(Entry::Live(_))), "the new secret does not work");

    remembered(&new).await;
    let grace = Duration::from_hours(1);
    let successor = manager.rotate(&owner, &new.id, grace).await.unwrap().record().clone();
    let Some(Entry::Live(old)) = found(&new).await else { panic!("in its grace, and gone") };
    assert!(old.expires_at.is_some(), "nobody has heard of the end of the grace");
    assert!(matches!(found(&successor).await, Some(Entry::Live(_))));

    remembered(&successor).await;
    let last = manager.rotate(&owner, &successor.id, Duration::ZERO).await.unwrap();
    let last = last.record().clone();
    assert!(matches!(found(&successor).await, Some(Entry::Ended(_))), "there was no grace");
    assert!(matches!(found(&last).await, Some(Entry::Live(_))));

    remembered(&last).await;
    assert!(manager.delete_all(&owner).await.unwrap() > 0);
    for key in [&key, &new, &successor, &last] {
        assert!(matches!(found(key).await, Some(Entry::Ended(_))));
    }
}

/// Whoever closes is waited for no more, and does not answer from memory any more.
#[tokio::test(start_paused = true)]
async fn who_has_closed_trusts_no_memory() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replicas = replicas(vec![store; 2]).await;
    let key = insert(&replicas[0], record(&account("a"), time(0))).await;
    replicas[0].settle().await;
    assert!(is_live(&replicas[1], &key).await);
    assert!(from_memory(&replicas[1], &key).is_some(), "it is in memory");
    replicas[1].close().await;
    assert_eq!(replicas[1].status().unwrap().lease, None);
    let deleted = replicas[0].delete(&key.account, &key.id, time(1)).await.unwrap();
    assert_eq!(deleted, Written::Done(()));
    let began = tokio::time::Instant::now();
    replicas[0].settle().await;
    assert!(began.elapsed() < LEASE, "who has closed is waited for");
    assert!(!is_live(&replicas[1], &key).await);
}

/// A replica that was suspected while it was well begins again, and nobody waits for it twice.
#[tokio::test(start_paused = true)]
async fn a_suspect_that_is_alive_comes_back_by_another_name() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replica = replicas(vec![Arc::clone(&store)]).await.remove(0);
    let before = replica.status().unwrap().id.unwrap();
    store.suspect(&[before]).await.unwrap();
    let after = async {
        loop {
            let status = replica.status().unwrap();
            if status.id != Some(before) && status.lease.is_some() {
                return status.id.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let after = soon(after).await;
    let roll = store.roll().await.unwrap();
    assert_eq!(roll.replicas.iter().map(|row| row.id).collect::<Vec<_>>(), [after]);
    let began = tokio::time::Instant::now();
    replica.settle().await;
    assert!(began.elapsed() < LEASE);
}

/// Many writes at once wait for each other's looks, and not for what keeps the lease.
async fn many_writes_at_once_leave_the_lease_alone(stores: Vec<Shared>) {
    let replicas = replicas(stores).await;
    let names = || replicas.iter().map(|replica| replica.status().unwrap().id).collect::<Vec<_>>();
    // The machine may have much else to do; what starves a renewal does so each time.
    for _ in 0..3 {
        let before = names();
        write_at_once(&replicas[0]).await;
        if names() == before {
            return;
        }
    }
    panic!("somebody is taken for dead each time");
}

async fn write_at_once(replica: &Replica) {
    const WRITERS: usize = 128;
    let manager = KeyManager::new(replica.clone(), "acme".parse().unwrap());
    let began = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let manager = manager.clone();
            tokio::spawn(async move {
                let owner = account(&format!("writer-{number}"));
                while began.elapsed() < Duration::from_secs(3) {
                    let id = manager.create(&owner, named("x")).await.unwrap().record().id.clone();
                    manager.delete(&owner, &id).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        soon(writer).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_at_once_leave_the_lease_alone_over_postgresql() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(patient(&url).await));
    }
    many_writes_at_once_leave_the_lease_alone(stores).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_at_once_leave_the_lease_alone_over_redis() {
    let Some(server) = Redis::shared() else { return };
    let url = server.fresh_database();
    let mut stores: Vec<Shared> = Vec::new();
    for _ in 0..2 {
        let options = RedisOptions::new(&url).with_time_limit(Duration::from_secs(30));
        stores.push(Arc::new(options.connect().await.unwrap()));
    }
    many_writes_at_once_leave_the_lease_alone(stores).await;
}

/// While the store is down, memory is trusted for no longer than the lease, unless somebody insists;
/// and even then not for what is known to be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_memory_is_trusted_for_the_lease_only() {
    let Some(server) = Redis::start(&Redis::DURABLE) else { return };
    let store = || async { RedisStore::connect(server.url(0)).await.unwrap() };
    let mut insecure = CacheSettings::default();
    insecure.insecure_stale_for = Duration::from_secs(3);
    let strict = CachedStore::shared(store().await, CacheSettings::default()).await;
    let stale = CachedStore::shared(store().await, insecure).await;
    let owner = account("a");
    let (key, gone) = (Arc::new(record(&owner, time(0))), Arc::new(record(&owner, time(0))));
    for key in [&key, &gone] {
        assert_eq!(strict.insert(Arc::clone(key), 9).await.unwrap(), Written::Done(()));
    }
    assert_eq!(strict.delete(&owner, &gone.id, time(1)).await.unwrap(), Written::Done(()));
    strict.settle().await;
    for replica in [&strict, &stale] {
        for key in [&key, &gone] {
            replica.find(key.fingerprint()).await.unwrap();
        }
    }
    server.kill();
    let down = Instant::now();
    let left = |since: Duration| strict.status().unwrap().lease.map(|left| since + left);
    while let Some(sum) = left(down.elapsed()) {
        assert!(sum <= LEASE, "{sum:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(strict.find(key.fingerprint()).await.is_err());
    let found = stale.find(key.fingerprint()).await.unwrap();
    assert!(matches!(found, Some(Entry::Live(_))));
    let found = stale.find(gone.fingerprint()).await.unwrap();
    assert!(matches!(found, Some(Entry::Ended(_))));
    while down.elapsed() < LEASE + Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stale.find(key.fingerprint()).await.is_err(), "and then no longer");

    server.restart();
    let back = Instant::now();
    while strict.status().unwrap().lease.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert!(strict.status().unwrap().is_connected);
}

/// Who does not want to wait is told when it is everywhere.
#[tokio::test(start_paused = true)]
async fn a_manager_can_return_at_once_and_settle_later() {
    let store: Shared = Arc::new(MemoryStore::new());
    store.enrol(ReplicaId::from_bytes([7; 16])).await.unwrap();
    let manager = KeyManager::new(Arc::clone(&store), "acme".parse().unwrap()).without_settling();
    let began = tokio::time::Instant::now();
    drop(manager.create(&account("a"), named("x")).await.unwrap());
    assert!(began.elapsed() < LEASE);
    manager.settle().await;
    assert!(began.elapsed() >= LEASE);
}

/// The last clone ends the task, which takes the replica off the roll.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_not_waited_for() {
    let store: Shared = Arc::new(MemoryStore::new());
    let replica = replicas(vec![Arc::clone(&store)]).await.remove(0);
    let clone = replica.clone();
    drop(replica);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.roll().await.unwrap().replicas.len(), 1);
    drop(clone);
    let empty = async {
        while !store.roll().await.unwrap().replicas.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(empty).await;
}
