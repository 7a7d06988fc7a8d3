//! Keys of other systems: filed as they are, all or none, and once.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::manage::import::{
    Import, ImportError, ImportReport, ImportRows, ImportedKey, RowRefusal,
};
use tower_api_key::{
    AccountId, ApiKeyLayer, EndCause, Entry, ForeignDigest, Hashing, KeyEvent, KeyFormat,
    KeyManager, KeyRecord, KeyRegistry, KeyStore, KeyText, ManageError, ManualClock, MemoryStore,
    Pepper, Scheme, StoreError, Transport, Upgrades, Written,
};

use crate::contract_broken::faulty::{Broken, Faulty, Said};
use crate::support::{Log, account, named, soon, text as text_of, time};

const STRONG: &str = "MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd";

fn hashing() -> Hashing {
    Hashing::default()
        .accepting(Scheme::sanctum())
        .accepting(Scheme::sha512())
        .accepting(Scheme::prefixed_api_key("mycompany").unwrap())
}

fn manager(store: impl KeyRegistry) -> KeyManager {
    KeyManager::new(store, "acme".parse().unwrap())
        .with_hashing(hashing())
        .with_clock(ManualClock::at(time(0)))
}

/// A strong text of its own.
fn strong(number: usize) -> String {
    format!("{number:04}{STRONG}")
}

fn of_text(owner: &str, text: &str) -> ImportedKey {
    ImportedKey::of_text(account(owner), "Imported".parse().unwrap(), text).unwrap()
}

fn of_digest(owner: &str, digest: ForeignDigest) -> ImportedKey {
    ImportedKey::of_digest(account(owner), "Imported".parse().unwrap(), digest)
}

fn some(owner: &str, many: usize) -> Vec<ImportedKey> {
    (0..many).map(|number| of_text(owner, &strong(number))).collect()
}

fn refused(outcome: Result<ImportReport, ImportError>) -> Vec<(usize, RowRefusal)> {
    let Err(ImportError::Refused(report)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(report.imported, 0);
    report.refused.into_iter().map(|row| (row.line, row.reason)).collect()
}

async fn status(store: impl KeyStore, upgrades: Option<&Upgrades>, key: &str) -> StatusCode {
    let hashing = upgrades.map_or_else(hashing, |_| peppered());
    let mut layer = ApiKeyLayer::new(store)
        .with_transport(Transport::dangerously_assume_https())
        .with_key_format(KeyFormat::Any)
        .with_hashing(hashing);
    if let Some(upgrades) = upgrades {
        layer = layer.with_upgrades(upgrades);
    }
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(http::Response::new(())));
    let request = Request::builder().header("api-key", key).body(()).unwrap();
    soon(layer.layer(inner).oneshot(request)).await.unwrap().status()
}

fn peppered() -> Hashing {
    Hashing::peppered(Pepper::new(vec![7; 32]).unwrap())
        .accepting(Scheme::sanctum())
        .accepting(Scheme::sha512())
        .accepting(Scheme::prefixed_api_key("mycompany").unwrap())
        .accepting(Scheme::sha256())
}

/// Rows as the other systems write them, computed by Python's `hashlib`:
/// `sha256(b"MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd")`,
/// `sha256(b"51FwqftsmMDHHbJAMEXXHCgG")`, `sha512(b"sYQbCzRe.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc")` and
/// `sha256(b"acme_live_example")`.
const LINES: &str = r#"
{"account":"a","name":"Laravel","format":"sanctum","selector":"17","digest":"a562857f72a13e7a84132b0f45587eed402c778b6b1d9b4f5177b3c0a3a2addd","scopes":["b:read"]}
{"account":"a","name":"Seam","format":"prefixed-api-key","selector":"BRTRKFsL","digest":"d70d981d87b449c107327c2a2afbf00d4b58070d6ba571aac35d7ea3e7c79f37"}
{"account":"b","name":"Django","format":"sha512","digest":"sha512$$691557df2670e2c215631c7e4885192996b582d1ee97ee34b1996247cc87f7427be905d2a2b1a4a694c0d65cfb81e409659951415ebb96e461f06a3c2583c534"}
{"account":"b","name":"Plain","format":"sha256","digest":"a00896b681b8617a684da37ac370f84c0513a35bcf79165768b1bef6a158228b","expires_at":"2040-01-01T00:00:00Z"}
{"account":"c","name":"Text","text":"k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1","created_at":"2020-01-01T00:00:00Z","id":"key_own"}
"#;

const TEXTS: [&str; 5] = [
    "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
    "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
    "sYQbCzRe.zmcwk2DpOQyKyz3NsNKdxRJ2mlBrzvNc",
    "acme_live_example",
    "k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1",
];

#[tokio::test]
async fn imported_keys_work_are_upgraded_and_work_still() {
    let store = MemoryStore::new();
    let manager = manager(store.clone()).with_hashing(peppered());
    let rows = || ImportRows::from_json_lines(LINES);
    let would = manager.import(rows(), &Import::default().as_dry_run()).await.unwrap();
    assert_eq!((would.imported, would.already), (5, 0));
    assert!(store.list(&account("a")).await.unwrap().is_empty(), "a dry run writes nothing");
    let report = manager.import(rows(), &Import::default()).await.unwrap();
    assert_eq!(report.to_string(), "5 imported, 0 already there, 0 refused");

    let records = async || {
        let mut all = Vec::new();
        for owner in ["a", "b", "c"] {
            all.extend(store.list(&account(owner)).await.unwrap());
        }
        all
    };
    let before = records().await;
    let upgrades = Upgrades::to(store.clone());
    for key in TEXTS {
        assert_eq!(status(store.clone(), Some(&upgrades), key).await, StatusCode::OK, "{key}");
        // Four at once, at the most: whoever comes too soon is upgraded the next time.
        tokio::task::yield_now().await;
    }
    let is_new = |key: &Arc<KeyRecord>| {
        let text = |text: &&str| {
            let text = KeyText::parse(text.as_bytes()).unwrap();
            peppered().digest(text).fingerprint() == key.fingerprint()
        };
        TEXTS.iter().any(text)
    };
    soon(async {
        while !records().await.iter().all(is_new) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for key in TEXTS {
        assert_eq!(status(store.clone(), Some(&upgrades), key).await, StatusCode::OK, "{key}");
    }
    for (before, now) in before.iter().zip(records().await) {
        assert_eq!((&before.id, &before.name, &before.scopes), (&now.id, &now.name, &now.scopes));
        if before.fingerprint() != now.fingerprint() {
            let left = store.find(before.fingerprint()).await.unwrap();
            assert!(matches!(left, Some(Entry::Ended(left)) if left.cause == EndCause::Rehashed));
        }
    }
    // The same file once more: nothing new, whatever was upgraded.
    let again = manager.import(rows(), &Import::default()).await.unwrap();
    assert_eq!((again.imported, again.already), (0, 5));
}

#[tokio::test]
async fn a_row_becomes_a_record_with_all_that_it_says() {
    let store = MemoryStore::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let manager = manager(store.clone()).with_events(move |event: &KeyEvent<'_>| {
        heard.lock().unwrap().push(event.name());
    });
    let (log, _guard) = Log::capture();
    let report = manager.import(ImportRows::from_json_lines(LINES), &Import::default()).await;
    assert_eq!(report.unwrap().imported, 5);
    let [plain] = manager.list(&account("c")).await.unwrap().try_into().unwrap();
    assert_eq!(plain.id.as_str(), "key_own");
    assert_eq!(plain.hint.as_str(), "…LfF1");
    assert_eq!(plain.created_at, SystemTime::UNIX_EPOCH + Duration::from_hours(438_288));
    let [seam_or_sanctum, other] = manager.list(&account("a")).await.unwrap().try_into().unwrap();
    for key in [&seam_or_sanctum, &other] {
        assert_eq!(key.created_at, time(0));
        let (hint, scopes) = match key.name.as_str() {
            "Laravel" => ("17|…", "b:read"),
            _ => ("BRTRKFsL_…", ""),
        };
        assert_eq!((key.hint.as_str(), key.scopes.to_string().as_str()), (hint, scopes));
    }
    assert_eq!(*events.lock().unwrap(), ["imported"; 5]);
    assert_eq!(log.lines("key imported").len(), 5);
    for secret in ["MgDYJz", "a562857f72a1", "k5Qd1aMg"] {
        assert!(!log.text().contains(secret), "a secret or a digest is in the log");
    }
}

#[tokio::test]
async fn one_bad_row_stops_all_unless_told_otherwise() {
    let store = MemoryStore::new();
    let manager = manager(store.clone());
    let rows = || {
        let mut rows = some("a", 3);
        rows[1] = of_text("a", "password");
        rows
    };
    for import in [Import::default(), Import::default().as_dry_run()] {
        let outcome = manager.import(rows(), &import).await;
        assert_eq!(refused(outcome), [(2, RowRefusal::Weak)]);
        assert!(manager.list(&account("a")).await.unwrap().is_empty(), "nothing was imported");
    }
    let skipping = Import::default().skipping_refused();
    let would = manager.import(rows(), &skipping.clone().as_dry_run()).await.unwrap();
    let report = manager.import(rows(), &skipping).await.unwrap();
    assert_eq!(would.to_string(), report.to_string());
    assert_eq!((report.imported, report.refused.len()), (2, 1));
    assert_eq!(status(store.clone(), None, &strong(0)).await, StatusCode::OK);
    assert_eq!(status(store.clone(), None, "password").await, StatusCode::UNAUTHORIZED);
    let weak = Import::default().dangerously_allowing_weak_texts();
    let report = manager.import(vec![of_text("a", "password")], &weak).await.unwrap();
    assert_eq!(report.imported, 1);
    assert_eq!(status(store, None, "password").await, StatusCode::OK);
}

#[tokio::test]
async fn rows_that_cannot_be_filed_are_refused_and_say_why() {
    let store = MemoryStore::new();
    let manager = manager(store.clone());
    let theirs = text_of(manager.create(&account("b"), named("theirs")).await.unwrap());
    let gone = manager.create(&account("a"), named("gone")).await.unwrap();
    let gone_id = gone.record().id.clone();
    let gone = text_of(gone);
    manager.delete(&account("a"), &gone_id).await.unwrap();
    let used_id = manager.list(&account("b")).await.unwrap()[0].id.clone();
    let new = |number| of_text("a", &strong(number));
    let past = time(0) - Duration::from_secs(1);
    let future = time(0) + Duration::from_secs(1);
    let far = SystemTime::UNIX_EPOCH + Duration::from_hours(70_389_528);
    let rows = vec![
        new(0),
        new(0),
        new(1).with_id("key_same".parse().unwrap()),
        new(2).with_id("key_same".parse().unwrap()),
        of_text("a", &theirs),
        of_text("a", &gone),
        of_text("b", &strong(3)).with_id(used_id),
        new(4).with_expires_at(time(0)),
        new(5).with_expires_at(far),
        new(6).with_created_at(future),
        new(7).with_created_at(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
        new(8).with_created_at(past).with_expires_at(future),
    ];
    let outcome = manager.import(rows.clone(), &Import::default()).await;
    let expected = vec![
        (2, RowRefusal::Repeated(1)),
        (4, RowRefusal::RepeatedId(3)),
        (5, RowRefusal::InUse),
        (6, RowRefusal::Ended),
        (7, RowRefusal::IdInUse),
        (8, RowRefusal::InvalidExpiry),
        (9, RowRefusal::InvalidExpiry),
        (10, RowRefusal::InvalidCreation),
        (11, RowRefusal::InvalidCreation),
    ];
    assert_eq!(refused(outcome), expected);
    let report = manager.import(rows, &Import::default().skipping_refused()).await.unwrap();
    assert_eq!((report.imported, report.refused.len()), (3, 9));
    let unaware = manager.clone().with_hashing(Hashing::default());
    let sanctum = of_digest("a", ForeignDigest::sanctum("1", [1; 32]).unwrap());
    let outcome = unaware.import(vec![sanctum], &Import::default()).await;
    assert_eq!(refused(outcome), [(1, RowRefusal::NotAccepted)]);
}

#[tokio::test]
async fn the_limit_holds_for_imports_exactly() {
    let store = MemoryStore::new();
    let manager = manager(store.clone());
    let _ = manager.create(&account("a"), named("own")).await.unwrap();
    let outcome = manager.import(some("a", 26), &Import::default()).await;
    let full = |limit| RowRefusal::LimitReached { limit };
    assert_eq!(refused(outcome), [(25, full(25)), (26, full(25))]);
    let exactly = manager.import(some("a", 26), &Import::default().with_limit(27)).await.unwrap();
    assert_eq!(exactly.imported, 26);
    let more = manager.import(vec![of_text("a", &strong(99))], &Import::default()).await;
    assert_eq!(refused(more), [(1, full(25))]);
    // What is there already needs no room.
    let again = manager.import(some("a", 26), &Import::default()).await.unwrap();
    assert_eq!((again.imported, again.already), (0, 26));
}

/// Before anything is written, so that a dry run says the same. What is no longer active when the row was created
/// counts as little as in the store.
#[tokio::test]
async fn the_limit_is_known_beforehand() {
    let store = MemoryStore::new();
    let manager = manager(store.clone());
    let old = |id: &str, created_at, expires_at| {
        let digest = Hashing::default().digest(KeyText::parse(id.as_bytes()).unwrap());
        let (id, name) = (id.parse().unwrap(), "Old".parse().unwrap());
        let mut record = KeyRecord::new(id, account("a"), name, digest, created_at);
        record.expires_at = Some(expires_at);
        Arc::new(record)
    };
    let second = Duration::from_secs(1);
    let gone = old("key_gone", time(0) - 9 * second, time(0) - second);
    assert_eq!(store.insert(gone, 1).await.unwrap(), Written::Done(()));
    let would = async |created_at| {
        let row = of_text("a", &strong(0)).with_created_at(created_at);
        manager.import(vec![row], &Import::default().with_limit(1).as_dry_run()).await
    };
    let full = [(1, RowRefusal::LimitReached { limit: 1 })];
    assert_eq!(would(time(0)).await.unwrap().imported, 1, "it has expired");
    assert_eq!(would(time(0) - second).await.unwrap().imported, 1, "it expired at that moment");
    assert_eq!(refused(would(time(0) - 2 * second).await), full, "it was active then");
    let active = old("key_active", time(0) - second, time(0) + second);
    assert_eq!(store.insert(active, 1).await.unwrap(), Written::Done(()));
    assert_eq!(refused(would(time(0)).await), full);
}

/// Counts how often somebody waits for the replicas.
#[derive(Default)]
struct Settles {
    good: MemoryStore,
    times: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Faulty for Settles {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn settle(&self) {
        self.times.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn the_replicas_are_waited_for_once_where_anything_was_filed() {
    let store = Settles::default();
    let times = Arc::clone(&store.times);
    let manager = manager(Broken(store));
    for (rows, import, expected) in [
        (3, Import::default().as_dry_run(), 0),
        (3, Import::default(), 1),
        // They are there.
        (3, Import::default(), 0),
        (4, Import::default(), 1),
    ] {
        times.store(0, Ordering::Relaxed);
        let _ = manager.import(some("a", rows), &import).await.unwrap();
        assert_eq!(times.load(Ordering::Relaxed), expected, "{rows} rows");
    }
    times.store(0, Ordering::Relaxed);
    let report = manager.without_settling().import(some("a", 5), &Import::default()).await;
    assert_eq!((report.unwrap().imported, times.load(Ordering::Relaxed)), (1, 0));
}

/// The account is full when the second row is to be written: somebody else was faster.
#[derive(Default)]
struct Filled {
    good: MemoryStore,
    calls: AtomicUsize,
}

#[async_trait::async_trait]
impl Faulty for Filled {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            1 => Ok(Written::Refused),
            _ => self.good.insert(record, limit).await,
        }
    }
}

#[tokio::test]
async fn a_row_that_is_refused_while_it_is_written_ends_the_import_unless_told_otherwise() {
    let full = (2, RowRefusal::LimitReached { limit: 25 });
    let importing = async |import: Import| {
        manager(Broken(Filled::default())).import(some("a", 3), &import).await
    };
    let outcome = importing(Import::default()).await;
    let Err(ImportError::Refused(report)) = outcome else { panic!("{outcome:?}") };
    let skipping = importing(Import::default().skipping_refused()).await.unwrap();
    for (report, imported) in [(report, 1), (skipping, 2)] {
        assert_eq!(report.imported, imported);
        let [row] = report.refused.try_into().unwrap();
        assert_eq!((row.line, row.reason), full);
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_stops_all_unless_told_otherwise() {
    let manager = manager(MemoryStore::new()).with_hashing(peppered());
    let rows = || ImportRows::from_json_lines(&format!("{LINES}\nno JSON"));
    let outcome = manager.import(rows(), &Import::default()).await;
    let [(8, RowRefusal::Malformed(_))] = &refused(outcome)[..] else { panic!("line 8") };
    let report = manager.import(rows(), &Import::default().skipping_refused()).await.unwrap();
    assert_eq!((report.imported, report.refused.len()), (5, 1));
}

#[tokio::test]
async fn progress_is_told_row_by_row() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    let import =
        Import::default().with_progress(move |done, of| hears.lock().unwrap().push((done, of)));
    manager(MemoryStore::new()).import(some("a", 3), &import).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [(1, 3), (2, 3), (3, 3)]);
}

/// Fails at the third insertion: before it was done, or after.
struct FailsOnce {
    good: MemoryStore,
    calls: AtomicUsize,
    is_done: bool,
}

impl Default for FailsOnce {
    fn default() -> Self {
        Self { good: MemoryStore::new(), calls: AtomicUsize::new(0), is_done: false }
    }
}

#[async_trait::async_trait]
impl Faulty for FailsOnce {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed) != 2 {
            return self.good.insert(record, limit).await;
        }
        if self.is_done {
            let _ = self.good.insert(record, limit).await?;
        }
        Err(StoreError::unavailable("test", "cut off"))
    }
}

#[tokio::test]
async fn an_import_that_was_cut_off_goes_on_where_it_stopped() {
    for is_done in [false, true] {
        let store = Arc::new(Broken(FailsOnce { is_done, ..FailsOnce::default() }));
        let manager = manager(Arc::clone(&store));
        let outcome = manager.import(some("a", 5), &Import::default()).await;
        let Err(ImportError::Stopped { report, source: ManageError::Store(_), .. }) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(report.imported, 2);
        let report = manager.import(some("a", 5), &Import::default()).await.unwrap();
        let already = 2 + usize::from(is_done);
        assert_eq!((report.imported, report.already), (5 - already, already));
        assert_eq!(store.list(&account("a")).await.unwrap().len(), 5);
    }
}

/// Somebody else files a row after it was checked.
#[derive(Default)]
struct Raced {
    good: MemoryStore,
}

#[async_trait::async_trait]
impl Faulty for Raced {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
        let mut first = (*record).clone();
        first.id = format!("key_first_{}", record.fingerprint()).parse().unwrap();
        let first = self.good.insert(Arc::new(first), limit).await?;
        assert_eq!(first, Written::Done(()));
        self.good.insert(record, limit).await
    }
}

#[tokio::test]
async fn of_two_imports_at_once_each_key_is_filed_once() {
    let store = Arc::new(Broken(Raced::default()));
    let report =
        manager(Arc::clone(&store)).import(some("a", 3), &Import::default()).await.unwrap();
    assert_eq!((report.imported, report.already), (0, 3));
    let owner: AccountId = account("a");
    assert_eq!(store.list(&owner).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_key_that_was_regenerated_since_is_not_brought_back() {
    let store = MemoryStore::new();
    let manager = manager(store.clone());
    let _ = manager.import(some("a", 1), &Import::default()).await.unwrap();
    let id = manager.list(&account("a")).await.unwrap()[0].id.clone();
    let _ = manager.regenerate(&account("a"), &id).await.unwrap();
    let again = manager.import(some("a", 1), &Import::default()).await;
    assert_eq!(refused(again), [(1, RowRefusal::Ended)]);
    assert_eq!(status(store, None, &strong(0)).await, StatusCode::UNAUTHORIZED);
    // Of somebody else's key nobody learns how it ended.
    let theirs = manager.import(some("b", 1), &Import::default()).await;
    assert_eq!(refused(theirs), [(1, RowRefusal::InUse)]);
}

#[tokio::test]
async fn a_key_that_was_upgraded_and_regenerated_since_is_not_brought_back() {
    let store = MemoryStore::new();
    let old = manager(store.clone());
    let _ = old.import(some("a", 1), &Import::default()).await.unwrap();
    let [key] = old.list(&account("a")).await.unwrap().try_into().unwrap();
    let upgraded = peppered().digest(KeyText::parse(strong(0).as_bytes()).unwrap());
    let rehashed = store.rehash(&key.account, &key.id, key.fingerprint(), upgraded, time(0)).await;
    assert!(matches!(rehashed, Ok(Written::Done(_))), "{rehashed:?}");
    // The first asks for the new digest, then for the old one; the second for the old one alone.
    let managers = [old.clone().with_hashing(peppered()), old];
    for manager in &managers {
        let again = manager.import(some("a", 1), &Import::default()).await.unwrap();
        assert_eq!((again.imported, again.already), (0, 1));
    }
    let _ = managers[0].regenerate(&account("a"), &key.id).await.unwrap();
    for manager in &managers {
        let again = manager.import(some("a", 1), &Import::default()).await;
        assert_eq!(refused(again), [(1, RowRefusal::Ended)]);
    }
}
