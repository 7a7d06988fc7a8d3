//! Many verify while one ends their keys: once a write has answered, no lookup that starts afterwards
//! gives a key that it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tower_api_key::{
    CacheSettings, CachedStore, Entry, Fingerprint, KeyRecord, KeyRegistry as _, KeyStore as _,
    NewSecret, Written,
};

use super::scripted::{Plan, Scripted};
use crate::support::{account, digest, record, soon, time};

const KEYS: usize = 10_000;
const EACH_ACCOUNT_S: usize = 25;
const VERIFIERS: u64 = 64;

/// How a write ends keys of `records`, which are of one account.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Delete,
    Replace,
    Rotate,
    DeleteAll,
}

struct History {
    store: CachedStore<Scripted>,
    records: Vec<Arc<KeyRecord>>,
    /// Set once the write that ended the key has answered.
    ended: Vec<AtomicBool>,
    /// How many keys were ended.
    frontier: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
}

async fn history(by: By) {
    let behind = Scripted::default();
    behind.read(Plan { slow: true, ..Plan::default() });
    let records: Vec<_> = (0..KEYS)
        .map(|number| {
            let owner = account(&format!("account-{}", number / EACH_ACCOUNT_S));
            Arc::new(record(&owner, time(0)))
        })
        .collect();
    for record in &records {
        assert_eq!(behind.insert(Arc::clone(record), KEYS).await.unwrap(), Written::Done(()));
    }
    let history = Arc::new(History {
        store: CachedStore::alone(behind, CacheSettings::default()),
        ended: records.iter().map(|_| AtomicBool::new(false)).collect(),
        records,
        frontier: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let verifiers: Vec<_> =
        (1..=VERIFIERS).map(|seed| tokio::spawn(verify(Arc::clone(&history), seed))).collect();
    history.end_all(by).await;
    for verifier in verifiers {
        verifier.await.unwrap();
    }
    let (accepted, refused) =
        (history.accepted.load(Ordering::SeqCst), history.refused.load(Ordering::SeqCst));
    assert!(accepted > 100 && refused > 100, "accepted {accepted}, refused {refused}");
}

impl History {
    async fn end_all(&self, by: By) {
        for (group, records) in self.records.chunks(EACH_ACCOUNT_S).enumerate() {
            let first = group * EACH_ACCOUNT_S;
            // On a busy machine the verifiers are waited for: without them nothing is shown.
            while self.lookups() < 20 * u64::try_from(group).unwrap() {
                tokio::task::yield_now().await;
            }
            if by == By::DeleteAll {
                let ended = self.store.delete_all(&records[0].account, time(1)).await.unwrap();
                assert_eq!(ended, records.len());
                self.say_ended(first..first + ended);
                continue;
            }
            for (place, record) in records.iter().enumerate() {
                self.end(by, record).await;
                self.say_ended(first + place..=first + place);
            }
        }
    }

    async fn end(&self, by: By, key: &KeyRecord) {
        let (owner, id) = (&key.account, &key.id);
        match by {
            By::Delete => {
                let done = self.store.delete(owner, id, time(1)).await.unwrap();
                assert_eq!(done, Written::Done(()));
            }
            By::Replace => {
                let secret = NewSecret::new(digest(&format!("new-{id}")), "…new".parse().unwrap());
                let done = self.store.replace(owner, id, secret, time(1)).await.unwrap();
                assert!(matches!(done, Written::Done(_)));
            }
            By::Rotate => {
                let successor = Arc::new(record(owner, time(1)));
                let done = self.store.rotate(owner, id, successor, None, KEYS).await.unwrap();
                assert_eq!(done, Written::Done(()));
            }
            By::DeleteAll => unreachable!("ends whole accounts"),
        }
    }

    fn say_ended(&self, places: impl Iterator<Item = usize>) {
        for place in places {
            self.ended[place].store(true, Ordering::SeqCst);
            self.frontier.store(place + 1, Ordering::SeqCst);
        }
    }

    fn lookups(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst) + self.refused.load(Ordering::SeqCst)
    }

    async fn is_live(&self, fingerprint: Fingerprint) -> bool {
        matches!(self.store.find(fingerprint).await.unwrap(), Some(Entry::Live(_)))
    }
}

/// Looks keys up around the one that is being ended.
async fn verify(history: Arc<History>, mut random: u64) {
    loop {
        let frontier = history.frontier.load(Ordering::SeqCst);
        if frontier == KEYS {
            return;
        }
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let ahead = usize::try_from(random >> 33).unwrap() % (2 * EACH_ACCOUNT_S);
        let place = (frontier + ahead).saturating_sub(EACH_ACCOUNT_S / 2).min(KEYS - 1);
        let ended = history.ended[place].load(Ordering::SeqCst);
        let live = history.is_live(history.records[place].fingerprint()).await;
        assert!(!(ended && live), "accepted after the write had answered");
        let counter = if live { &history.accepted } else { &history.refused };
        counter.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleting_is_final() {
    soon(history(By::Delete)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replacing_is_final() {
    soon(history(By::Replace)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rotating_without_a_grace_is_final() {
    soon(history(By::Rotate)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deleting_all_is_final() {
    soon(history(By::DeleteAll)).await;
}
