//! The SQLite file: whose it is, what it survives, what it refuses.

use std::path::Path;
use std::sync::Arc;

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tower_api_key::{
    AccountId, Changes, Day, Entry, KeyManager, KeyRegistry as _, KeyStore as _, SqliteStore,
    StoreError, Use, Version, Written,
};

use crate::contract::{bound_keys_are_kept_beside_what_was_there, uses_are_kept_of_what_was_there};
use crate::servers::folder::Folder;
use crate::support::{Log, account, named, record, soon, text, time};

async fn sql(path: &Path, statements: &'static str) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn filled(path: &Path) -> (AccountId, Vec<Arc<tower_api_key::KeyRecord>>) {
    let store = SqliteStore::open(path).await.unwrap();
    let owner = account("a");
    for number in 0..3 {
        let made = Arc::new(record(&owner, time(number)));
        assert_eq!(store.insert(made, 25).await.unwrap(), Written::Done(()));
    }
    let listed = store.list(&owner).await.unwrap();
    store.close().await;
    (owner, listed)
}

#[tokio::test]
async fn keys_are_there_when_the_file_is_opened_again() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (owner, before) = filled(&path).await;
    let store = SqliteStore::open(&path).await.unwrap();
    let after = store.list(&owner).await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let made = Arc::new(record(&account("a"), time(0)));
    assert_eq!(store.insert(made, 25).await.unwrap(), Written::Done(()));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?}");
    }
}

#[tokio::test]
async fn a_file_from_a_newer_version_is_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    filled(&path).await;
    sql(&path, "PRAGMA user_version = 7").await;
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 7, known: 5, .. }), "{refused:?}");
    assert!(refused.to_string().contains("layout 7"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_the_first_layout_is_brought_to_the_newest() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let made = record(&account("a"), time(0));
    let digest =
        made.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "{}; PRAGMA application_id = {}; PRAGMA user_version = 1;
         INSERT INTO secrets VALUES (x'{}', x'{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, NULL, NULL)",
        include_str!("../../src/store/sqlite/layout-1.sql"),
        0x616b_6579,
        made.fingerprint(),
        made.id,
    );
    sql(&path, Box::leak(statements.into_boxed_str())).await;
    let store = SqliteStore::open(&path).await.unwrap();
    let found = store.find(made.fingerprint()).await.unwrap();
    assert!(matches!(found, Some(Entry::Live(_))));
    let Changes::Known { latest, changes } = store.changes(Version::default()).await.unwrap()
    else {
        panic!("its changes are known");
    };
    assert_eq!((latest, changes), (Version::default(), Vec::new()));
    store.mark_used(&[Use::new(made.fingerprint(), time(9))]).await.unwrap();
    assert_eq!(store.list(&account("a")).await.unwrap()[0].last_used_at, Some(time(9)));
    assert_eq!(store.delete(&account("a"), &made.id, time(9)).await.unwrap(), Written::Done(()));
    store.close().await;
    SqliteStore::open(&path).await.unwrap().close().await;
}

#[tokio::test]
async fn a_file_of_the_second_layout_is_brought_to_the_newest() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (live, left) = (record(&account("a"), time(0)), record(&account("a"), time(0)));
    let digest =
        live.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "{}; {}; PRAGMA application_id = {}; PRAGMA user_version = 2;
         INSERT INTO secrets VALUES
             (x'{}', x'{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, NULL, NULL, 7),
             (x'{}', NULL, '{}', 'a', 'Left', NULL, '', '', 5, NULL, NULL, 6, 'deleted', NULL)",
        include_str!("../../src/store/sqlite/layout-1.sql"),
        include_str!("../../src/store/sqlite/layout-2.sql"),
        0x616b_6579,
        live.fingerprint(),
        live.id,
        left.fingerprint(),
        left.id,
    );
    sql(&path, Box::leak(statements.into_boxed_str())).await;
    let store = SqliteStore::open(&path).await.unwrap();
    uses_are_kept_of_what_was_there(&store, &live, &left).await;
    store.close().await;
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.usage(&account("a"), Day::of(time(9))).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_file_of_the_third_layout_is_brought_to_the_newest() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (live, left) = (record(&account("a"), time(0)), record(&account("a"), time(0)));
    let digest =
        live.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "{}; {}; {}; PRAGMA application_id = {}; PRAGMA user_version = 3;
         INSERT INTO secrets VALUES
             (x'{}', x'{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, NULL, NULL, 7, NULL, NULL),
             (x'{}', NULL, '{}', 'a', 'Left', NULL, '', '', 5, NULL, NULL, 6, 'deleted', NULL, NULL, NULL)",
        include_str!("../../src/store/sqlite/layout-1.sql"),
        include_str!("../../src/store/sqlite/layout-2.sql"),
        include_str!("../../src/store/sqlite/layout-3.sql"),
        0x616b_6579,
        live.fingerprint(),
        live.id,
        left.fingerprint(),
        left.id,
    );
    sql(&path, Box::leak(statements.into_boxed_str())).await;
    let store = SqliteStore::open(&path).await.unwrap();
    bound_keys_are_kept_beside_what_was_there(&store).await;
    uses_are_kept_of_what_was_there(&store, &live, &left).await;
    store.close().await;
    SqliteStore::open(&path).await.unwrap().close().await;
}

/// The names of a file's indexes and what they are of.
async fn indexes(path: &Path) -> Vec<(String, Option<String>)> {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let indexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name";
    let indexes = sqlx::query_as(indexes).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    indexes
}

#[tokio::test]
async fn a_file_of_the_fourth_layout_gets_the_indexes_of_a_new_one() {
    let folder = Folder::new();
    let (path, new) = (folder.path().join("keys.db"), folder.path().join("new.db"));
    let (live, left) = (record(&account("a"), time(0)), record(&account("a"), time(0)));
    let digest =
        live.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "{}; {}; {}; {}; PRAGMA application_id = {}; PRAGMA user_version = 4;
         INSERT INTO secrets VALUES
             (x'{}', x'{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, NULL, NULL, 7, NULL, NULL, '', NULL),
             (x'{}', NULL, '{}', 'a', 'Left', NULL, '', '', 5, NULL, NULL, 6, 'deleted', NULL, NULL, NULL, '', NULL)",
        include_str!("../../src/store/sqlite/layout-1.sql"),
        include_str!("../../src/store/sqlite/layout-2.sql"),
        include_str!("../../src/store/sqlite/layout-3.sql"),
        include_str!("../../src/store/sqlite/layout-4.sql"),
        0x616b_6579,
        live.fingerprint(),
        live.id,
        left.fingerprint(),
        left.id,
    );
    sql(&path, Box::leak(statements.into_boxed_str())).await;
    let store = SqliteStore::open(&path).await.unwrap();
    uses_are_kept_of_what_was_there(&store, &live, &left).await;
    store.close().await;
    filled(&new).await;
    let indexes_of_new = indexes(&new).await;
    assert_eq!(indexes(&path).await, indexes_of_new);
    let names: Vec<_> = indexes_of_new.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"live_secrets_of_account"), "{names:?}");
}

#[tokio::test]
async fn a_damaged_row_of_the_usage_is_passed_over_loudly() {
    for damage in [
        "UPDATE usage SET requests = -1 WHERE key_id = '{}'",
        "UPDATE usage SET refusals = -1 WHERE key_id = '{}'",
        "UPDATE usage SET day = 4294967296 WHERE key_id = '{}'",
        "UPDATE secrets SET name = '' WHERE key_id = '{}'",
    ] {
        let folder = Folder::new();
        let path = folder.path().join("keys.db");
        let (owner, records) = filled(&path).await;
        let store = SqliteStore::open(&path).await.unwrap();
        let uses: Vec<_> = records.iter().map(|it| Use::new(it.fingerprint(), time(9))).collect();
        store.mark_used(&uses).await.unwrap();
        let statements = damage.replace("{}", records[1].id.as_str());
        sql(&path, Box::leak(statements.into_boxed_str())).await;
        let (log, _guard) = Log::capture();
        let usage = store.usage(&owner, Day::from_number(0)).await.unwrap();
        let given: Vec<_> = usage.iter().map(|used| &used.key).collect();
        let mut expected = vec![&records[0].id, &records[2].id];
        expected.sort();
        assert_eq!(given, expected, "{damage}");
        let told = log.lines("a damaged row of the usage was passed over");
        assert_eq!(told.len(), 1, "{damage}");
    }
}

#[tokio::test]
async fn another_application_s_file_is_refused_and_left_alone() {
    for statements in [
        "CREATE TABLE customers (name TEXT)",
        "PRAGMA application_id = 7",
        "CREATE TABLE secrets (fingerprint BLOB); PRAGMA user_version = 1",
    ] {
        let folder = Folder::new();
        let path = folder.path().join("theirs.db");
        sql(&path, statements).await;
        let before = std::fs::read(&path).unwrap();
        let refused = SqliteStore::open(&path).await.unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }), "{statements}: {refused:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn what_is_no_database_or_no_place_for_one_is_an_error() {
    let folder = Folder::new();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "a text that is long enough not to be an empty database").unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    for place in [folder.path().join("missing/keys.db"), folder.path().to_owned()] {
        assert!(SqliteStore::open(place).await.is_err());
    }
}

#[tokio::test]
async fn a_damaged_row_is_passed_over_loudly_and_never_accepted() {
    let damages = [
        "UPDATE secrets SET digest = x'00'",
        "UPDATE secrets SET digest = zeroblob(32)",
        "UPDATE secrets SET name = ''",
        "UPDATE secrets SET name = 'a' || char(10) || 'b'",
        "UPDATE secrets SET name = CAST(x'ff' AS TEXT)",
        "UPDATE secrets SET account = ''",
        "UPDATE secrets SET key_id = '../etc'",
        "UPDATE secrets SET created_at = -1",
        "UPDATE secrets SET expires_at = -9223372036854775808",
        "UPDATE secrets SET environment = 'NOT ONE'",
        "UPDATE secrets SET scopes = 'a  b'",
        "UPDATE secrets SET sources = 'here'",
        "UPDATE secrets SET sources = '0.0.0.0/0'",
        "UPDATE secrets SET last_used_from = 'here'",
        "UPDATE secrets SET last_used_agent = x'00'",
        "UPDATE secrets SET ended_at = 5, ended_by = 'magic', digest = NULL",
        "UPDATE secrets SET ended_at = NULL, ended_by = NULL, digest = NULL",
    ];
    for damage in damages {
        let folder = Folder::new();
        let path = folder.path().join("keys.db");
        let (owner, records) = filled(&path).await;
        let statements = format!(
            "PRAGMA ignore_check_constraints = ON; {damage} WHERE key_id = '{}'",
            records[1].id
        );
        sql(&path, Box::leak(statements.into_boxed_str())).await;

        let (log, _guard) = Log::capture();
        let store = SqliteStore::open(&path).await.unwrap();
        let found = store.find(records[1].fingerprint()).await.unwrap();
        assert!(!matches!(found, Some(Entry::Live(_))), "{damage}");
        assert_eq!(log.lines("a damaged row was passed over").len(), 1, "{damage}");
        let listed = store.list(&owner).await.unwrap();
        assert!(listed.iter().all(|record| record.id != records[1].id), "{damage}");
        assert!(store.get(&owner, &records[1].id).await.unwrap().is_none(), "{damage}");
        let found = store.find(records[0].fingerprint()).await.unwrap();
        assert!(matches!(found, Some(Entry::Live(_))), "the others are as they were: {damage}");
    }
}

#[tokio::test]
async fn a_damaged_row_still_counts_and_can_be_deleted() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (owner, records) = filled(&path).await;
    sql(&path, "PRAGMA ignore_check_constraints = ON; UPDATE secrets SET name = ''").await;
    let store = SqliteStore::open(&path).await.unwrap();
    let fourth = Arc::new(record(&owner, time(9)));
    assert_eq!(store.insert(fourth, 3).await.unwrap(), Written::Refused);
    assert_eq!(store.delete(&owner, &records[0].id, time(9)).await.unwrap(), Written::Done(()));
    assert_eq!(store.delete_all(&owner, time(9)).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_opened_by_many_at_once() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { SqliteStore::open(path).await })
        })
        .collect();
    let owner = account("a");
    for (number, store) in opened.into_iter().enumerate() {
        let store = store.await.unwrap().unwrap();
        let made = Arc::new(record(&owner, time(number as u64)));
        assert_eq!(store.insert(made, 25).await.unwrap(), Written::Done(()));
    }
}

#[tokio::test]
async fn opening_waits_for_a_reader_that_is_in_the_way() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (owner, _) = filled(&path).await;
    // As a tool may leave it: not in write-ahead mode, and being read.
    sql(&path, "PRAGMA journal_mode = DELETE").await;
    let mut reader = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let read = "BEGIN; SELECT count(*) FROM secrets";
    sqlx::raw_sql(read).execute(&mut reader).await.unwrap();
    let opened = tokio::spawn(async move { SqliteStore::open(path).await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!opened.is_finished(), "the mode cannot be changed under a reader");
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    let store = soon(opened).await.unwrap().unwrap();
    assert_eq!(store.list(&owner).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_between_several_openings_of_one_file() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(SqliteStore::open(&path).await.unwrap());
    }
    let owner = account("a");
    let calls: Vec<_> = (0..64)
        .map(|number| {
            let (store, made) = (stores[number % 4].clone(), Arc::new(record(&owner, time(0))));
            tokio::spawn(async move { store.insert(made, 25).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        done += usize::from(call.await.unwrap() == Written::Done(()));
    }
    assert_eq!(done, 25);
    assert_eq!(stores[0].list(&owner).await.unwrap().len(), 25);
}

#[tokio::test]
async fn no_key_is_in_the_file_only_its_digest() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let issued = manager.create(&account("a"), named("Production CRM")).await.unwrap();
    let (record, key) = (issued.record().clone(), text(issued));
    let holds = |part: &[u8]| {
        std::fs::read_dir(folder.path()).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(part.len()).any(|window| window == part)
        })
    };
    assert!(holds(record.digest.as_bytes()), "this test sees what is in the files");
    assert!(!holds(key.as_bytes()));
    assert!(!holds(&key.as_bytes()[10..40]), "nor a part of it");
    manager.delete(&account("a"), &record.id).await.unwrap();
    let Some(Entry::Ended(tombstone)) = store.find(record.fingerprint()).await.unwrap() else {
        panic!("no tombstone");
    };
    assert_eq!(tombstone.name.as_str(), "Production CRM");
}
