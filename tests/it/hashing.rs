//! Keys whose digests were made in another way: they work, and are upgraded as they are used.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::{
    AccountId, ApiKeyLayer, CacheSettings, CachedStore, EndCause, Entry, Fingerprint,
    ForeignDigest, Hashing, KeyDigest, KeyEvent, KeyFormat, KeyId, KeyManager, KeyRecord,
    KeyRegistry, KeyStore, KeyText, Lookup, MemoryStore, Pepper, Rejection, RejectionKind, Scheme,
    StoreError, Transport, Upgrades,
};

use crate::contract_broken::faulty::{Broken, Faulty, Said};
use crate::support::{Log, account, digest, named, record, soon, text, time};

fn pepper(byte: u8) -> Pepper {
    Pepper::new(vec![byte; 32]).unwrap()
}

fn open(store: impl KeyStore, hashing: &Hashing) -> ApiKeyLayer {
    ApiKeyLayer::new(store)
        .with_transport(Transport::dangerously_assume_https())
        .with_key_format(KeyFormat::Any)
        .with_hashing(hashing.clone())
}

async fn answer(layer: &ApiKeyLayer, key: &str) -> Response<()> {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let request = Request::builder().header("api-key", key).body(()).unwrap();
    soon(layer.layer(inner).oneshot(request)).await.unwrap().map(drop)
}

fn kind(response: &Response<()>) -> Option<RejectionKind> {
    response.extensions().get::<Rejection>().map(Rejection::kind)
}

fn of(hashing: &Hashing, key: &str) -> KeyDigest {
    hashing.digest(KeyText::parse(key.as_bytes()).unwrap())
}

/// A live key of the account "a".
async fn filed(store: &impl KeyRegistry, digest: KeyDigest) -> Arc<KeyRecord> {
    let mut record = record(&account("a"), time(0));
    record.digest = digest;
    let record = Arc::new(record);
    let _ = store.insert(Arc::clone(&record), 25).await.unwrap();
    record
}

/// Waits until what is filed is filed under another digest.
async fn upgraded(store: &impl KeyRegistry, from: &KeyRecord) -> Arc<KeyRecord> {
    soon(async {
        loop {
            let now = store.get(&from.account, &from.id).await.unwrap().unwrap();
            if now.fingerprint() != from.fingerprint() {
                return now;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// A store whose answers come later.
struct Later<S>(S);

impl<S: KeyStore> KeyStore for Later<S> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let found = self.0.find(fingerprint);
        Lookup::waiting(async move {
            tokio::task::yield_now().await;
            found.await
        })
    }
}

/// A store that answers by a script: what it is asked, and the how-manieth time.
struct Scripted<F>(F, AtomicUsize);

impl<F: Fn(Fingerprint, usize) -> Lookup + Send + Sync + 'static> KeyStore for Scripted<F> {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        (self.0)(fingerprint, self.1.fetch_add(1, Ordering::Relaxed))
    }
}

fn scripted(
    script: impl Fn(Fingerprint, usize) -> Lookup + Send + Sync + 'static,
) -> impl KeyStore {
    Scripted(script, AtomicUsize::new(0))
}

#[tokio::test]
async fn keys_of_other_systems_work_over_stores_that_answer_at_once_and_later() {
    let seam = Scheme::prefixed_api_key("mycompany").unwrap();
    let hashing =
        Hashing::default().accepting(Scheme::sha512()).accepting(Scheme::sanctum()).accepting(seam);
    let store = MemoryStore::new();
    // As `hashlib.sha256(…)` of what stands after the '|' and after the last '_'.
    let sanctum = *digest("MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd").as_bytes();
    let long = *digest("51FwqftsmMDHHbJAMEXXHCgG").as_bytes();
    for foreign in [
        ForeignDigest::sanctum("17", sanctum).unwrap(),
        ForeignDigest::prefixed_api_key("BRTRKFsL", long).unwrap(),
    ] {
        filed(&store, foreign.digest().clone()).await;
    }
    for layer in [open(store.clone(), &hashing), open(Later(store.clone()), &hashing)] {
        for key in [
            "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
            "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
        ] {
            assert_eq!(answer(&layer, key).await.status(), StatusCode::OK, "{key}");
        }
        for key in [
            "18|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
            "MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd",
            "another_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
        ] {
            assert_eq!(kind(&answer(&layer, key).await), Some(RejectionKind::UnknownKey), "{key}");
        }
    }
    let unaware = open(store, &Hashing::default());
    let key = "17|MgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1a3k5Qd";
    assert_eq!(kind(&answer(&unaware, key).await), Some(RejectionKind::UnknownKey));
}

#[tokio::test]
async fn without_older_schemes_the_store_is_asked_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let store = scripted(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Lookup::ready(Ok(None))
    });
    let hashing = Hashing::peppered(pepper(1));
    assert_eq!(kind(&answer(&open(store, &hashing), "x").await), Some(RejectionKind::UnknownKey));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_key_with_a_pepper_is_unknown_without_it() {
    let store = MemoryStore::new();
    let hashing = Hashing::peppered(pepper(1));
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let manager = manager.with_hashing(hashing.clone());
    let issued = manager.create(&account("a"), named("x")).await.unwrap();
    let id = issued.record().id.clone();
    let key = text(issued);
    assert_eq!(answer(&open(store.clone(), &hashing), &key).await.status(), StatusCode::OK);
    for other in [Hashing::default(), Hashing::peppered(pepper(2))] {
        let response = answer(&open(store.clone(), &other), &key).await;
        assert_eq!(kind(&response), Some(RejectionKind::UnknownKey));
    }
    let renewed = text(manager.regenerate(&account("a"), &id).await.unwrap());
    assert_eq!(answer(&open(store.clone(), &hashing), &renewed).await.status(), StatusCode::OK);
    let rotated = manager.rotate(&account("a"), &id, Duration::from_mins(1)).await.unwrap();
    assert_eq!(answer(&open(store, &hashing), &text(rotated)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_used_key_is_upgraded_and_goes_on_working() {
    let old = Hashing::peppered(pepper(1));
    let new = Hashing::peppered(pepper(2)).accepting(Scheme::peppered(pepper(1)));
    let key = "a-key-of-the-old-pepper";
    let store = MemoryStore::new();
    let before = filed(&store, of(&old, key)).await;
    let layer = open(Later(store.clone()), &new).with_upgrades(&Upgrades::to(store.clone()));
    assert_eq!(answer(&layer, key).await.status(), StatusCode::OK);
    let now = upgraded(&store, &before).await;
    assert_eq!(now.fingerprint(), of(&new, key).fingerprint());
    assert_eq!((&now.id, &now.name), (&before.id, &before.name));
    let left = store.find(before.fingerprint()).await.unwrap();
    assert!(matches!(left, Some(Entry::Ended(left)) if left.cause == EndCause::Rehashed));
    // Also once the old pepper is gone.
    for hashing in [&new, &Hashing::peppered(pepper(2))] {
        assert_eq!(answer(&open(store.clone(), hashing), key).await.status(), StatusCode::OK);
    }
    // A process that was left with the old one alone must not say "no".
    let late = answer(&open(store, &old), key).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_refused_key_is_not_upgraded() {
    let key = "an-expired-key";
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let store = MemoryStore::new();
    let mut expired = record(&account("a"), time(0));
    expired.digest = of(&old, key);
    expired.expires_at = Some(time(1));
    let clock = tower_api_key::ManualClock::at(time(2));
    let _ = store.insert(Arc::new(expired.clone()), 25).await.unwrap();
    let upgrades = Upgrades::with_clock(store.clone(), clock.clone());
    let layer = open(store.clone(), &new).with_upgrades(&upgrades).with_clock(clock);
    assert_eq!(kind(&answer(&layer, key).await), Some(RejectionKind::ExpiredKey));
    tokio::task::yield_now().await;
    let now = store.get(&expired.account, &expired.id).await.unwrap().unwrap();
    assert_eq!(now.fingerprint(), expired.fingerprint());
}

/// Another request upgrades the key after this one did not find it under today's digest.
#[tokio::test]
async fn a_key_that_is_upgraded_between_two_lookups_is_accepted() {
    let key = "a-key-in-between";
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    for is_late in [false, true] {
        let store = MemoryStore::new();
        let before = filed(&store, of(&old, key)).await;
        let (inner, digest) = (store.clone(), of(&new, key));
        let racing = scripted(move |fingerprint, time_asked| {
            let (inner, before, digest) = (inner.clone(), Arc::clone(&before), digest.clone());
            let find = async move {
                let found = inner.find(fingerprint).await;
                if time_asked == 0 {
                    let (owner, old) = (&before.account, before.fingerprint());
                    let _ = inner.rehash(owner, &before.id, old, digest, time(1)).await?;
                }
                found
            };
            if is_late {
                return Lookup::waiting(find);
            }
            Lookup::ready(futures_util::FutureExt::now_or_never(find).unwrap())
        });
        assert_eq!(answer(&open(racing, &new), key).await.status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn all_lookups_of_a_request_are_under_one_time_limit() {
    let hashing = Hashing::default().accepting(Scheme::sha512()).accepting(Scheme::sanctum());
    let slow = scripted(|_, _| {
        Lookup::waiting(async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            Ok(None)
        })
    });
    let layer = open(slow, &hashing).with_store_timeout(Duration::from_millis(100));
    let began = tokio::time::Instant::now();
    let response = answer(&layer, "1|x").await;
    assert_eq!(kind(&response), Some(RejectionKind::StoreTimedOut));
    assert_eq!(began.elapsed().as_millis(), 100);
}

#[tokio::test]
async fn a_store_that_panics_at_a_later_lookup_is_a_503() {
    let hashing = Hashing::default().accepting(Scheme::sha512());
    for is_late in [false, true] {
        let store = scripted(move |_, number| {
            assert!(number == 0 || is_late, "panics when it is asked");
            Lookup::waiting(async move {
                tokio::task::yield_now().await;
                assert!(number == 0, "panics when it is waited for");
                Ok(None)
            })
        });
        let response = answer(&open(store, &hashing), "x").await;
        assert_eq!(kind(&response), Some(RejectionKind::StorePanicked));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let at_once = scripted(|_, number| {
        assert!(number == 0, "panics the second time");
        Lookup::ready(Ok(None))
    });
    let response = answer(&open(at_once, &hashing), "x").await;
    assert_eq!(kind(&response), Some(RejectionKind::StorePanicked));
}

/// Upgrades hang, and it is known of which keys.
#[derive(Default)]
struct Hanging {
    good: MemoryStore,
    asked: Mutex<Vec<Fingerprint>>,
}

#[async_trait::async_trait]
impl Faulty for Hanging {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn rehash(
        &self,
        _: &AccountId,
        _: &KeyId,
        old: Fingerprint,
        _: KeyDigest,
        _: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        self.asked.lock().unwrap().push(old);
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_hangs_holds_no_request_and_is_one_for_each_key() {
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let store = Arc::new(Broken(Hanging::default()));
    for number in 0..8 {
        filed(&store, of(&old, &format!("key-{number}"))).await;
    }
    let layer = open(Arc::clone(&store), &new).with_upgrades(&Upgrades::to(Arc::clone(&store)));
    let use_all = async || {
        for number in [0, 0, 1, 2, 3, 4, 5, 6, 7] {
            let response = answer(&layer, &format!("key-{number}")).await;
            assert_eq!(response.status(), StatusCode::OK);
            tokio::task::yield_now().await;
        }
    };
    use_all().await;
    use_all().await;
    let each: std::collections::BTreeSet<_> =
        store.0.asked.lock().unwrap().iter().copied().collect();
    assert_eq!(store.0.asked.lock().unwrap().len(), 4, "so many at once, at the most");
    assert_eq!(each.len(), 4, "one at a time for each key");
    // They are given up in time, and others have their turn.
    tokio::time::sleep(Duration::from_secs(7)).await;
    use_all().await;
    assert_eq!(store.0.asked.lock().unwrap().len(), 8);
}

/// The first upgrades fail.
#[derive(Default)]
struct FailsTwice {
    good: MemoryStore,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Faulty for FailsTwice {
    fn good(&self) -> &MemoryStore {
        &self.good
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Said<Arc<KeyRecord>> {
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err(StoreError::unavailable("test", "down")),
            1 => panic!("upgrading panics"),
            _ => self.good.rehash(account, id, old, digest, at).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_failed_is_logged_and_tried_again_at_the_next_use() {
    let (log, _guard) = Log::capture();
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let store = Arc::new(Broken(FailsTwice::default()));
    let key = "a-stubborn-key";
    let before = filed(&store, of(&old, key)).await;
    let layer = open(Arc::clone(&store), &new).with_upgrades(&Upgrades::to(Arc::clone(&store)));
    for _ in 0..3 {
        assert_eq!(answer(&layer, key).await.status(), StatusCode::OK);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let now = upgraded(&store, &before).await;
    assert_eq!(now.fingerprint(), of(&new, key).fingerprint());
    assert_eq!(log.lines("keeps its old digest").len(), 1, "{}", log.text());
    assert_eq!(log.lines("was given a digest of today").len(), 1);
    assert!(!log.text().contains(key), "a key is in the log");
    assert_eq!(answer(&layer, key).await.status(), StatusCode::OK);
}

/// The cache knows that nothing is under today's digest, and not yet that the key was rehashed; what it
/// knew of the old digest has made room for others.
#[tokio::test]
async fn a_cache_holds_no_absence_against_a_key_that_was_rehashed() {
    let key = "a-cached-key";
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let behind = MemoryStore::new();
    let before = filed(&behind, of(&old, key)).await;
    let cached = CachedStore::alone(behind.clone(), CacheSettings::default());
    assert!(cached.find(of(&new, key).fingerprint()).await.unwrap().is_none());
    // Past the cache, as by another process whose change has not come through.
    let (owner, id, print) = (&before.account, &before.id, before.fingerprint());
    let _ = behind.rehash(owner, id, print, of(&new, key), time(1)).await.unwrap();
    assert!(cached.find(of(&new, key).fingerprint()).await.unwrap().is_none(), "it is cached");
    let layer = open(cached, &new);
    assert_eq!(answer(&layer, key).await.status(), StatusCode::OK);
    assert_eq!(answer(&layer, key).await.status(), StatusCode::OK);
}

/// Two processes over one store, of which one upgrades keys under the other's eyes. What the other keeps is
/// little, so that it asks anew for the one digest while it still remembers of the other that it is not there.
#[tokio::test(flavor = "multi_thread")]
async fn every_replica_accepts_a_key_while_it_is_upgraded() {
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let store = MemoryStore::new();
    let ours = CachedStore::shared(store.clone(), CacheSettings::default()).await;
    let mut little = CacheSettings::default();
    little.max_live = 1;
    let theirs = CachedStore::shared(store.clone(), little).await;
    let upgrading = open(ours.clone(), &new).with_upgrades(&Upgrades::to(ours.clone()));
    let (watching, other) = (open(theirs.clone(), &new), "the-other-key");
    filed(&store, of(&new, other)).await;
    for round in 0..40 {
        let key = format!("key-{round}");
        let owner = account(&format!("owner-{round}"));
        let mut made = record(&owner, time(0));
        made.digest = of(&old, &key);
        let before = Arc::new(made);
        let _ = store.insert(Arc::clone(&before), 25).await.unwrap();
        let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let watch = {
            let (watching, key, is_over) = (watching.clone(), key.clone(), Arc::clone(&is_over));
            async move {
                while !is_over.load(Ordering::SeqCst) {
                    for key in [&key, other] {
                        let status = answer(&watching, key).await.status();
                        assert_eq!(status, StatusCode::OK, "round {round}");
                    }
                }
            }
        };
        let watch = tokio::spawn(watch);
        tokio::task::yield_now().await;
        assert_eq!(answer(&upgrading, &key).await.status(), StatusCode::OK);
        upgraded(&store, &before).await;
        for _ in 0..20 {
            assert_eq!(answer(&upgrading, &key).await.status(), StatusCode::OK);
            tokio::task::yield_now().await;
        }
        is_over.store(true, Ordering::SeqCst);
        watch.await.unwrap();
    }
    ours.close().await;
    theirs.close().await;
}

#[tokio::test]
async fn a_key_with_an_old_digest_that_came_in_the_clear_is_told_of() {
    let key = "a-key-in-the-clear";
    let (old, new) = (Hashing::default(), Hashing::peppered(pepper(2)).accepting(Scheme::sha256()));
    let store = MemoryStore::new();
    let before = filed(&store, of(&old, key)).await;
    let exposed = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&exposed);
    let layer = ApiKeyLayer::new(store)
        .with_key_format(KeyFormat::Any)
        .with_hashing(new)
        .with_events(move |event: &KeyEvent<'_>| {
            if let KeyEvent::Exposed { key, .. } = event {
                heard.lock().unwrap().push(key.id.clone());
            }
        });
    assert_eq!(kind(&answer(&layer, key).await), Some(RejectionKind::NotHttps));
    soon(async {
        while exposed.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(*exposed.lock().unwrap(), std::slice::from_ref(&before.id));
}
