//! Disks that are full, and stores that may only read.

use std::sync::Arc;
use std::time::Duration;

use tower_api_key::{KeyManager, SqliteStore};

use super::ledger::Ledger;
use super::state::coherent;
use super::{Backend, Door, Store, unknown_key};
use crate::servers::folder::Folder;
use crate::servers::{Disk, Postgres, Redis};
use crate::support::{account, named, soon, text};

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_on_a_full_disk() {
    let Some(disk) = Disk::of_megabytes(2) else { return };
    let store = SqliteStore::open(disk.path().join("keys.db")).await.unwrap();
    a_full_disk("sqlite", Arc::new(store), &disk, || {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_on_a_full_disk() {
    let Some(disk) = Disk::of_megabytes(96) else { return };
    let options = Postgres::options().durable().on(disk.path());
    let Some(backend) = Backend::postgres(options).await else { return };
    a_full_disk("postgres", backend.connect().await, &disk, || restarted(&backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_on_a_full_disk() {
    for sync in ["always", "everysec"] {
        let Some(disk) = Disk::of_megabytes(4) else { return };
        let folder = disk.path().to_str().unwrap();
        let arguments = ["--appendonly", "yes", "--appendfsync", sync, "--dir", folder];
        let Some(backend) = Backend::redis(&arguments) else { return };
        let name = format!("redis, {sync}");
        a_full_disk(&name, backend.connect().await, &disk, || restarted(&backend)).await;
    }
}

fn restarted(backend: &Backend) {
    backend.kill();
    backend.restart();
}

/// Where nothing can be written, writes fail, and verification goes on or is refused; once there is
/// room again (and the server was started, if it ended), all that was answered is there.
async fn a_full_disk(name: &str, store: Store, disk: &Disk, restart: impl Fn()) {
    let keys = Keys::new(&store).await;
    let (ledger, owner) = (Ledger::default(), account("full"));
    let before = ledger.create(&store, &owner).await.unwrap();
    let doomed = ledger.create(&store, &owner).await.unwrap();
    disk.fill();
    let (mut done, mut failed) = (0, 0);
    // What the store had room for before goes on for a while.
    while failed < 20 && done < 20_000 {
        match ledger.create(&store, &owner).await {
            Ok(_) => done += 1,
            Err(_) => failed += 1,
        }
    }
    assert!(failed >= 20, "it was never full");
    let ends = [ledger.delete(&store, &doomed).await, ledger.replace(&store, &before).await];
    let ends = ends.iter().filter(|end| end.is_ok()).count();
    let seen = keys.are_answered_or_refused().await;
    println!(
        "{name}, disk full: {done} more writes, then {failed} failed, {ends} of 2 ends done; {seen}"
    );

    disk.free();
    let recovers = async {
        while ledger.create(&store, &owner).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let by_itself = tokio::time::timeout(Duration::from_secs(3), recovers).await.is_ok();
    if by_itself {
        keys.are_answered().await;
        ledger.check(&store).await;
    }
    restart();
    soon(async {
        while ledger.create(&store, &owner).await.is_err() || store.list(&owner).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    keys.are_answered().await;
    let (created, ended) = ledger.check(&store).await;
    coherent(&store, &owner, &[]).await;
    println!(
        "{name}, room again: by itself {by_itself}; {created} creations and {ended} ends hold"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_through_a_read_only_mount() {
    let folder = Folder::new();
    let writable = Arc::new(SqliteStore::open(folder.path().join("keys.db")).await.unwrap());
    let keys = Keys::new(&(Arc::clone(&writable) as Store)).await;
    let Some(view) = Disk::read_only(folder.path()) else { return };
    match SqliteStore::open(view.path().join("keys.db")).await {
        Err(refused) => println!("sqlite, read only: {refused}"),
        Ok(store) => {
            let store: Store = Arc::new(store);
            assert!(Ledger::default().create(&store, &account("a")).await.is_err());
            println!("sqlite, read only: {}", keys.at(&store).are_answered_or_refused().await);
        }
    }
    keys.are_answered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_may_only_read() {
    let Some(backend) = Backend::postgres(Postgres::options()).await else { return };
    let keys = Keys::new(&backend.connect().await).await;
    let Backend::Postgres { server, database } = &backend else { unreachable!() };
    let forbid = format!("ALTER DATABASE {database} SET default_transaction_read_only = on");
    server.execute("postgres", &forbid).await;
    let store = backend.connect().await;
    writes_fail_and_reads_go_on("postgres", &store, &keys.at(&store)).await;
    let allow = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    server.execute("postgres", &allow).await;
    writes_again(&backend.connect().await, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_without_the_replicas_that_it_needs() {
    let Some(backend) = Backend::redis(&Redis::DURABLE) else { return };
    let store = backend.connect().await;
    let keys = Keys::new(&store).await;
    let Backend::Redis { server } = &backend else { unreachable!() };
    server.say("CONFIG SET min-replicas-to-write 1").await;
    writes_fail_and_reads_go_on("redis, too few replicas", &store, &keys).await;
    server.say("CONFIG SET min-replicas-to-write 0").await;
    writes_again(&store, &keys).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_became_a_replica() {
    let Some(backend) = Backend::redis(&Redis::DURABLE) else { return };
    let store = backend.connect().await;
    let keys = Keys::new(&store).await;
    let Backend::Redis { server } = &backend else { unreachable!() };
    // Of nobody: it keeps its data.
    server.say("REPLICAOF 127.0.0.1 1").await;
    assert!(Ledger::default().create(&store, &account("a")).await.is_err());
    println!("redis, a replica: {}", keys.are_answered_or_refused().await);
    server.say("REPLICAOF NO ONE").await;
    soon(async {
        while keys.door.status(&keys.valid).await == 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    writes_again(&store, &keys).await;
}

async fn writes_fail_and_reads_go_on(name: &str, store: &Store, keys: &Keys) {
    let (ledger, owner) = (Ledger::default(), account("a"));
    let listed = store.list(&owner).await.unwrap();
    for _ in 0..10 {
        assert!(ledger.create(store, &owner).await.is_err());
        assert!(ledger.delete(store, &listed[0]).await.is_err());
        assert!(ledger.replace(store, &listed[0]).await.is_err());
    }
    assert_eq!(format!("{:?}", coherent(store, &owner, &[]).await), format!("{listed:?}"));
    println!("{name}, read only: {}", keys.are_answered_or_refused().await);
    keys.are_answered().await;
}

async fn writes_again(store: &Store, keys: &Keys) {
    Ledger::default().create(store, &account("a")).await.unwrap();
    keys.at(store).are_answered().await;
}

/// A valid key, a deleted one, and one that never was, behind the layer.
#[derive(Clone)]
struct Keys {
    door: Door,
    valid: String,
    deleted: String,
    unknown: String,
}

impl Keys {
    async fn new(store: &Store) -> Self {
        let manager = KeyManager::new(Arc::clone(store), "acme".parse().unwrap());
        let owner = account("a");
        let valid = manager.create(&owner, named("valid")).await.unwrap();
        let deleted = manager.create(&owner, named("deleted")).await.unwrap();
        manager.delete(&owner, &deleted.record().id).await.unwrap();
        let door = Door::of(Arc::clone(store));
        Self { door, valid: text(valid), deleted: text(deleted), unknown: unknown_key().await }
    }

    fn at(&self, store: &Store) -> Self {
        Self { door: Door::of(Arc::clone(store)), ..self.clone() }
    }

    async fn are_answered(&self) {
        for _ in 0..20 {
            assert_eq!(self.door.status(&self.valid).await, 200);
            assert_eq!(self.door.status(&self.deleted).await, 401);
            assert_eq!(self.door.status(&self.unknown).await, 401);
        }
    }

    /// Asserts that the valid key is never called invalid, and that no other is accepted.
    async fn are_answered_or_refused(&self) -> String {
        let (mut answered, mut refused) = (0, 0);
        for _ in 0..30 {
            for (key, expected) in [(&self.valid, 200), (&self.deleted, 401), (&self.unknown, 401)]
            {
                match self.door.status(key).await {
                    503 => refused += 1,
                    status => {
                        assert_eq!(status, expected);
                        answered += 1;
                    }
                }
            }
        }
        format!("{answered} requests answered, {refused} refused with 503")
    }
}
