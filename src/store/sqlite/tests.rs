use super::SqliteStore;
use crate::manage::{KeyManager, NewKey};

/// What a setting is on the connections for verification and for management.
async fn setting<const N: usize>(store: &SqliteStore, names: [&'static str; N]) -> [[i64; 2]; N] {
    let mut values = [[-1; 2]; N];
    for (name, value) in names.into_iter().zip(&mut values) {
        for (pool, value) in [&store.verification, &store.management].into_iter().zip(value) {
            *value = sqlx::query_scalar(name).fetch_one(pool).await.unwrap();
        }
    }
    values
}

#[tokio::test]
async fn the_settings_are_those_that_keep_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    for pool in [&store.verification, &store.management] {
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
        assert_eq!(journal, "wal");
    }
    let settings = ["PRAGMA synchronous", "PRAGMA busy_timeout", "PRAGMA query_only"];
    let [synchronous, busy_timeout, query_only] = setting(&store, settings).await;
    assert_eq!(synchronous, [2, 2], "2 is FULL");
    assert_eq!(busy_timeout, [5000, 5000]);
    assert_eq!(query_only, [1, 0], "verification cannot write, management can");
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
