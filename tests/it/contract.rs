//! Every store keeps every promise of `tower_api_key::store::contract`.

mod remote;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tower_api_key::store::CHANGES_KEPT;
use tower_api_key::store::contract::{
    self, Handles, PROMISES, Subject, a_delete_is_seen_between_stores,
    changes_can_be_followed_between_stores, old_changes_are_known_whole_or_forgotten,
    the_cap_holds_between_stores, the_first_key_is_made_once_between_stores,
    the_roll_is_kept_between_stores,
};
use tower_api_key::{
    Changes, Day, KeyRecord, KeyRegistry, MemoryStore, SharedRegistry, SqliteStore, Use, Version,
    Written, store_contract,
};

use crate::servers::folder::Folder;
use crate::support::{account, record, soon, time};

store_contract!(memory, async || Subject::new(MemoryStore::new()));

async fn sqlite_file() -> Subject {
    let folder = Folder::new();
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
    let folder = Folder::new();
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
async fn memory_keeps_the_roll() {
    let store = MemoryStore::new();
    let shared = |_| -> Arc<dyn SharedRegistry> { Arc::new(store.clone()) };
    let stores: Vec<_> = (0..3).map(shared).collect();
    soon(the_roll_is_kept_between_stores(&stores)).await;
}

#[test]
fn memory_and_sqlite_replace_in_one_step() {
    let memory = async || Subject::new(MemoryStore::new());
    contract::check(memory, contract::old_and_new_secrets_never_both_live);
    contract::check(sqlite_file, contract::old_and_new_secrets_never_both_live);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_roll() {
    let folder = Folder::new();
    let mut stores: Vec<Arc<dyn SharedRegistry>> = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(SqliteStore::open(folder.path().join("keys.db")).await.unwrap()));
    }
    soon(the_roll_is_kept_between_stores(&stores)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_the_promises_between_openings() {
    let folder = Folder::new();
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
async fn assert_old_changes_are_forgotten(store: Arc<dyn KeyRegistry>) {
    soon(old_changes_are_known_whole_or_forgotten(Arc::clone(&store))).await;
    for since in [0, 4] {
        let changes = store.changes(Version::new(since)).await.unwrap();
        assert!(
            matches!(changes, Changes::Forgotten { latest } if latest.get() > CHANGES_KEPT + since),
            "since {since}"
        );
    }
}

#[tokio::test]
async fn memory_forgets_old_changes() {
    assert_old_changes_are_forgotten(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn sqlite_forgets_old_changes() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).await.unwrap();
    // As after so many writes, which would take half a minute.
    let written = "WITH RECURSIVE versions(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM versions WHERE n < 9990)
        INSERT INTO changes SELECT n, x'0102030405060708' FROM versions;
        UPDATE latest SET version = 9990";
    let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    sqlx::raw_sql(written).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    assert_old_changes_are_forgotten(Arc::new(store)).await;
}

/// What an older layout has: a live key of the account "a". In the newest layout it works from anywhere,
/// and others may be bound to addresses.
pub(crate) async fn bound_keys_are_kept_beside_what_was_there(store: &impl KeyRegistry) {
    let [before] = store.list(&account("a")).await.unwrap().try_into().unwrap();
    assert!(before.sources.is_anywhere());
    let mut bound = record(&account("b"), time(0));
    bound.sources = "192.0.2.0/24 2001:db8::1".parse().unwrap();
    let written = store.insert(Arc::new(bound.clone()), 25).await.unwrap();
    assert_eq!(written, Written::Done(()));
    let [after] = store.list(&account("b")).await.unwrap().try_into().unwrap();
    assert_eq!(after.sources, bound.sources);
}

/// What an older layout has: a live key of the account "a", last used 7 ms after 1970, and one, called
/// "Left", that was deleted 6 ms after it. In the newest layout, uses of both are kept.
pub(crate) async fn uses_are_kept_of_what_was_there(
    store: &impl KeyRegistry,
    live: &KeyRecord,
    left: &KeyRecord,
) {
    let owner = account("a");
    let [before] = store.list(&owner).await.unwrap().try_into().unwrap();
    let after_1970 = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
    assert_eq!(before.last_used_at, Some(after_1970(7)));
    assert_eq!((before.last_used_from, before.last_used_agent), (None, None));
    assert!(store.usage(&owner, Day::from_number(0)).await.unwrap().is_empty());
    let mut used = Use::new(live.fingerprint(), time(9));
    used.address = Some([192, 0, 2, 1].into());
    store.mark_used(&[used, Use::new(left.fingerprint(), time(9))]).await.unwrap();
    let [after] = store.list(&owner).await.unwrap().try_into().unwrap();
    assert_eq!((after.last_used_at, after.last_used_from), (Some(time(9)), used.address));
    let usage = store.usage(&owner, Day::of(time(9))).await.unwrap();
    let mut given: Vec<_> = usage.iter().map(|it| (it.name.as_str(), it.ended_at)).collect();
    given.sort_unstable();
    assert_eq!(given, [("A name", None), ("Left", Some(after_1970(6)))]);
}

/// The compiler says so too, but only as a warning.
#[test]
fn every_promise_is_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/contract");
    let mut written = Vec::new();
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    for file in files.filter(|file| file.is_file()) {
        let code = fs::read_to_string(file).unwrap();
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
    let folder = Folder::new();
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
