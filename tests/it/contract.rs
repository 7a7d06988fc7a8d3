//! Every store keeps every promise of `tower_api_key::store::contract`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tower_api_key::store::contract::{
    self, Handles, PROMISES, Subject, a_delete_is_seen_between_stores,
    changes_can_be_followed_between_stores, old_changes_are_known_whole_or_forgotten,
    the_cap_holds_between_stores, the_first_key_is_made_once_between_stores,
};
use tower_api_key::{Changes, KeyRegistry, MemoryStore, SqliteStore, Version, store_contract};

use crate::support::soon;

store_contract!(memory, async || Subject::new(MemoryStore::new()));

async fn sqlite_file() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    Subject::new(store).keeping(folder)
}

store_contract!(sqlite, sqlite_file);

/// Several openings of one file, as several processes have them.
async fn openings(file: &Path, many: usize) -> Vec<Arc<dyn KeyRegistry>> {
    let mut opened: Vec<Arc<dyn KeyRegistry>> = Vec::new();
    for _ in 0..many {
        opened.push(Arc::new(SqliteStore::open(file).await.unwrap()));
    }
    opened
}

async fn sqlite_file_opened_thrice() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let handles = Handles::new(openings(&folder.path().join("keys.db"), 3).await);
    Subject::new(handles).keeping(folder)
}

store_contract!(sqlite_through_three_openings, sqlite_file_opened_thrice);

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_promises_between_stores() {
    let store = MemoryStore::new();
    let shared = |_| -> Arc<dyn KeyRegistry> { Arc::new(store.clone()) };
    let stores: Vec<_> = (0..4).map(shared).collect();
    soon(async {
        the_cap_holds_between_stores(&stores, 1_000).await;
        the_first_key_is_made_once_between_stores(&stores, 300).await;
        a_delete_is_seen_between_stores(&stores, 300).await;
        changes_can_be_followed_between_stores(&stores, 100).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_promises_between_openings() {
    let folder = tempfile::tempdir().unwrap();
    let stores = openings(&folder.path().join("keys.db"), 4).await;
    soon(async {
        the_cap_holds_between_stores(&stores, 30).await;
        the_first_key_is_made_once_between_stores(&stores, 20).await;
        a_delete_is_seen_between_stores(&stores, 30).await;
        changes_can_be_followed_between_stores(&stores, 5).await;
    })
    .await;
}

/// The contract lets a store remember more than it must; these two do not.
#[tokio::test(flavor = "multi_thread")]
async fn old_changes_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    let stores: [Arc<dyn KeyRegistry>; 2] = [Arc::new(MemoryStore::new()), Arc::new(sqlite)];
    for store in stores {
        soon(old_changes_are_known_whole_or_forgotten(Arc::clone(&store))).await;
        let start = store.changes(Version::new(5)).await.unwrap();
        assert!(matches!(start, Changes::Forgotten { .. }));
    }
}

/// The compiler says so too, but only as a warning.
#[test]
fn every_promise_is_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/contract");
    let mut written = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let code = fs::read_to_string(file.unwrap().path()).unwrap();
        for function in code.split("\npub async fn ").skip(1) {
            let (name, _) = function.split_once('(').unwrap();
            written.push(name.to_owned());
        }
    }
    let is_run_by_hand = |name: &str| name.ends_with("_between_stores") || name.starts_with("old_");
    written.retain(|name| !is_run_by_hand(name));
    written.sort();
    let mut listed = PROMISES.to_vec();
    listed.sort_unstable();
    assert_eq!(written, listed);
}

#[test]
fn a_store_that_is_not_there_leaves_its_promises_out() {
    contract::check(async || None, contract::the_cap_holds_under_races);
}

#[test]
fn what_a_subject_keeps_outlives_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let kept = path.clone();
    contract::check(
        async || Subject::new(SqliteStore::open(&path).await.unwrap()).keeping(folder),
        async move |store: Arc<dyn KeyRegistry>| {
            assert!(store.list(&"a".parse().unwrap()).await.unwrap().is_empty());
            assert!(kept.exists(), "the folder is there while the promise is asked");
        },
    );
    assert!(!path.exists(), "and gone afterwards");
}
