use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::sqlite::SqlitePool;

use super::SqliteStore;
use crate::digest::KeyDigest;
use crate::manage::{KeyManager, NewKey};
use crate::record::{AccountId, KeyRecord};
use crate::store::{
    Day, KeyRegistry as _, NewSecret, ReplicaId, SharedRegistry as _, Use, Version, Written,
};

/// The connections for verification, management, renewals and the roll of replicas.
fn pools(store: &SqliteStore) -> [&SqlitePool; 4] {
    [&store.verification, &store.management, &store.renewal, &store.replicas]
}

/// What a setting is on each of them.
async fn setting<const N: usize>(store: &SqliteStore, names: [&'static str; N]) -> [[i64; 4]; N] {
    let mut values = [[-1; 4]; N];
    for (name, value) in names.into_iter().zip(&mut values) {
        for (pool, value) in pools(store).into_iter().zip(value) {
            *value = sqlx::query_scalar(name).fetch_one(pool).await.unwrap();
        }
    }
    values
}

#[tokio::test]
async fn the_settings_are_those_that_keep_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    for pool in pools(&store) {
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
        assert_eq!(journal, "wal");
    }
    let settings = ["PRAGMA synchronous", "PRAGMA busy_timeout", "PRAGMA query_only"];
    let [synchronous, busy_timeout, query_only] = setting(&store, settings).await;
    assert_eq!(synchronous, [2; 4], "2 is FULL");
    assert_eq!(busy_timeout, [5000; 4]);
    assert_eq!(query_only, [1, 0, 0, 1], "what only reads cannot write");
}

/// A full disk ends the transaction under way; the next ones must work when there is space again.
#[tokio::test]
async fn after_a_full_disk_management_works_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_limit(usize::MAX);
    let owner = "a".parse().unwrap();
    let new = || NewKey::new("x".parse().unwrap());
    let first = manager.create(&owner, new()).await.unwrap().record().id.clone();

    let limit = |pages: &'static str| sqlx::query(pages).execute(&store.management);
    limit("PRAGMA max_page_count = 12").await.unwrap();
    let mut made = 1;
    let refused = loop {
        match manager.create(&owner, new()).await {
            Ok(_) => made += 1,
            Err(refused) => break refused,
        }
        assert!(made < 10_000, "the file has no limit");
    };
    let full = format!("{refused:?}");
    assert!(full.contains("full"), "{full}");

    limit("PRAGMA max_page_count = 1000000").await.unwrap();
    manager.delete(&owner, &first).await.unwrap();
    let _ = manager.create(&owner, new()).await.unwrap();
    assert_eq!(manager.list(&owner).await.unwrap().len(), made);
}

#[tokio::test]
async fn a_deleted_digest_leaves_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap()).with_limit(usize::MAX);
    let owner = "a".parse().unwrap();
    let mut deleted = Vec::new();
    for number in 0..50 {
        let new = NewKey::new("x".parse().unwrap());
        let record = manager.create(&owner, new).await.unwrap().record().clone();
        if number % 5 == 0 {
            deleted.push(record);
        }
    }
    for record in &deleted {
        manager.delete(&owner, &record.id).await.unwrap();
    }
    store.close().await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for record in &deleted {
            // Without the fingerprint, which the tombstone keeps.
            let digest = &record.digest.as_bytes()[8..];
            assert!(!bytes.windows(digest.len()).any(|window| window == digest));
        }
    }
}

#[tokio::test]
async fn names_that_sqlite_takes_for_something_else_are_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in [":memory:", "file:x.db?mode=memory", "a?b=c&d#e %20.db"] {
        let path = folder.path().join(name);
        let store = SqliteStore::open(&path).await.unwrap();
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        let owner = "a".parse().unwrap();
        let _ = manager.create(&owner, NewKey::new("x".parse().unwrap())).await.unwrap();
        store.close().await;
        assert!(std::fs::metadata(&path).unwrap().len() > 0, "{name}");
        let store = SqliteStore::open(&path).await.unwrap();
        let manager = KeyManager::new(store, "acme".parse().unwrap());
        assert_eq!(manager.list(&owner).await.unwrap().len(), 1, "{name}");
    }
}

/// How many steps SQLite's machine takes for management, by hundreds.
async fn steps(store: &SqliteStore) -> Arc<AtomicUsize> {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let mut connection = store.management.acquire().await.unwrap();
    let mut handle = connection.lock_handle().await.unwrap();
    handle.set_progress_handler(100, move || {
        counted.fetch_add(100, Ordering::Relaxed);
        true
    });
    steps
}

fn record(owner: &AccountId, number: u8) -> Arc<KeyRecord> {
    let (id, name) = (format!("key_{number:020}").parse().unwrap(), "A name".parse().unwrap());
    let (digest, now) = (KeyDigest::from_bytes([number; 32]), SystemTime::UNIX_EPOCH);
    Arc::new(KeyRecord::new(id, owner.clone(), name, digest, now))
}

/// Ten thousand secrets that ended: of a key that was regenerated so often, or each of a key of its own.
const LEFT: &str = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 10000)
    INSERT INTO secrets (fingerprint, key_id, account, name, scopes, hint, created_at, ended_at, ended_by)
    SELECT CAST(printf('%s%07d', 'k', n) AS BLOB), 'key_00000000000000000001', 'a', 'A name', '', '', 0, 0, 'regenerated'
    FROM number
    UNION ALL
    SELECT CAST(printf('%s%07d', 'd', n) AS BLOB), 'key_' || n, 'a', 'A name', '', '', 0, 0, 'deleted'
    FROM number";

/// The writes among these hold the file's lock meanwhile.
#[tokio::test]
async fn what_ended_is_passed_over_by_no_write_and_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let owner: AccountId = "a".parse().unwrap();
    sqlx::query(LEFT).execute(&store.management).await.unwrap();
    let keys: Vec<_> = (0..8).map(|number| record(&owner, number)).collect();
    let [id, other] = [&keys[1].id, &keys[2].id];
    let (now, secret) = (SystemTime::UNIX_EPOCH, |number: u8| KeyDigest::from_bytes([number; 32]));
    let grace = Some(now + Duration::from_secs(1));
    let steps = steps(&store).await;
    let mut slow = Vec::new();
    let mut look = |what: &'static str, is_done: bool| {
        assert!(is_done, "{what}");
        let taken = steps.swap(0, Ordering::Relaxed);
        if taken > 2_000 {
            slow.push((what, taken));
        }
    };
    for key in &keys[..3] {
        let inserted = store.insert(Arc::clone(key), 25).await.unwrap();
        look("insert", inserted == Written::Done(()));
    }
    let first = store.insert_first(Arc::clone(&keys[3])).await.unwrap();
    look("insert_first", first == Written::Refused);
    look("list", store.list(&owner).await.unwrap().len() == 3);
    look("get", store.get(&owner, id).await.unwrap().is_some());
    let renamed = store.rename(&owner, id, "Another".parse().unwrap()).await.unwrap();
    look("rename", matches!(renamed, Written::Done(_)));
    let new = NewSecret::new(secret(100), keys[1].hint.clone());
    let replaced = store.replace(&owner, id, new, now).await.unwrap();
    look("replace", matches!(replaced, Written::Done(_)));
    let old = secret(100).fingerprint();
    let rehashed = store.rehash(&owner, id, old, secret(101), now).await.unwrap();
    look("rehash", matches!(rehashed, Written::Done(_)));
    store.mark_used(&[Use::new(old, now)]).await.unwrap();
    look("mark_used", true);
    let deleted = store.delete(&owner, id, now).await.unwrap();
    look("delete", deleted == Written::Done(()));
    let beside = store.rotate(&owner, other, Arc::clone(&keys[4]), grace, 25).await.unwrap();
    look("rotate with a grace", beside == Written::Done(()));
    let instead = store.rotate(&owner, &keys[4].id, Arc::clone(&keys[5]), None, 25).await.unwrap();
    look("rotate", instead == Written::Done(()));
    look("delete_all", store.delete_all(&owner, now).await.unwrap() == 3);
    assert!(slow.is_empty(), "steps for an account with 20,000 tombstones: {slow:?}");
}

/// Nor does the use of others of its keys, which is read on the connection of the writes.
#[tokio::test]
async fn what_ended_unused_is_passed_over_by_no_usage() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let owner: AccountId = "a".parse().unwrap();
    sqlx::query(LEFT).execute(&store.management).await.unwrap();
    let key = record(&owner, 2);
    assert_eq!(store.insert(Arc::clone(&key), 25).await.unwrap(), Written::Done(()));
    store.mark_used(&[Use::new(key.fingerprint(), SystemTime::UNIX_EPOCH)]).await.unwrap();
    let steps = steps(&store).await;
    assert_eq!(store.usage(&owner, Day::from_number(0)).await.unwrap().len(), 1);
    let taken = steps.load(Ordering::Relaxed);
    assert!(taken <= 2_000, "{taken} steps for one used key beside 20,000 tombstones");
}

/// A lease that is not renewed in time runs out, and then valid keys wait with all others for the store.
#[tokio::test]
async fn replicas_wait_neither_for_lookups_nor_for_management() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let replica = ReplicaId::from_bytes([7; 16]);
    store.enrol(replica).await.unwrap();
    let key = record(&"a".parse().unwrap(), 1);
    assert_eq!(store.insert(key, 25).await.unwrap(), Written::Done(()));
    let mut taken = Vec::new();
    for (pool, most) in [(&store.verification, 4), (&store.management, 1)] {
        assert_eq!(pool.options().get_max_connections(), most);
        for _ in 0..most {
            taken.push(pool.acquire().await.unwrap());
        }
    }
    let applied = Version::new(1);
    let renewed = store.renew(replica, applied).await.unwrap();
    assert_eq!(renewed.map(|changes| changes.latest()), Some(applied));
    let roll = store.roll().await.unwrap();
    assert_eq!(roll.replicas[0].applied, applied, "what it has applied is noted");
}
