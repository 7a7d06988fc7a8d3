//! Promises about following a store's changes while others write to it.

use std::collections::HashMap;
use std::sync::Arc;

use super::given::{NO_CAP, Store, account, at_once, find, record, said, time, while_watched};
use crate::digest::Fingerprint;
use crate::store::{Change, Changes, Entry, KeyRegistry, Version, Written};

const WRITERS: usize = 16;

/// Whoever follows the changes while 16 others write sees every one of them once, in the order of
/// versions without a gap, and finds what each version wrote.
pub async fn versions_are_in_the_order_of_commits(store: Store) {
    changes_can_be_followed_between_stores(&[store], 8).await;
}

/// Whoever follows the changes through one of these handles of one store, while 16 others write
/// through them in turn, sees every one of them once, in the order of versions without a gap, and
/// finds what each version wrote. Each writer makes, renames and deletes so many `keys`.
pub async fn changes_can_be_followed_between_stores(stores: &[Arc<dyn KeyRegistry>], keys: usize) {
    let start = match stores[0].changes(Version::default()).await.unwrap() {
        Changes::Known { latest, .. } | Changes::Forgotten { latest } => latest,
    };
    let followers = stores.iter().cycle().take(stores.len().max(2)).cloned();
    let follower = |store| Follower { store, at: start, seen: HashMap::new() };
    let followers = followers.map(follower).collect();
    let look = |follower: Follower, _| follower.follow();
    let writing = at_once(WRITERS, |number| {
        let store = Arc::clone(&stores[number % stores.len()]);
        async move { write(&store, &format!("writer-{number}"), keys).await }
    });
    let (_, followers) = while_watched(followers, look, writing).await;
    for follower in followers {
        assert_eq!(follower.seen.len(), WRITERS * keys, "keys that a follower has seen");
        let missed = follower.seen.values().filter(|seen| **seen != 3).count();
        assert_eq!(missed, 0, "keys of which a follower has missed a change");
        let writes = (WRITERS * keys * 3) as u64;
        assert_eq!(follower.at.get(), start.get() + writes, "every write takes one version");
    }
}

/// Three writes to each key.
async fn write(store: &Store, owner: &str, keys: usize) {
    let owner = account(owner);
    for number in 0..keys {
        let key = Arc::new(record(&owner, time(number as u64)));
        let inserted = said(store.insert(Arc::clone(&key), NO_CAP).await);
        let renamed = said(store.rename(&owner, &key.id, "Renamed".parse().unwrap()).await);
        let deleted = said(store.delete(&owner, &key.id, time(1)).await);
        assert_eq!([inserted, renamed, deleted], [Written::Done(()); 3]);
    }
}

struct Follower {
    store: Store,
    at: Version,
    /// How many changes of each secret.
    seen: HashMap<Fingerprint, usize>,
}

impl Follower {
    /// Asks once for what is new.
    async fn follow(mut self) -> Self {
        let Changes::Known { latest, changes } = self.store.changes(self.at).await.unwrap() else {
            panic!("changes are forgotten that were just made, since {:?}", self.at);
        };
        assert!(latest >= self.at, "the version went back, from {:?} to {latest:?}", self.at);
        let versions = changes.iter().map(|change| change.version.get());
        let has_all = versions.eq(self.at.get() + 1..=latest.get());
        assert!(has_all, "from {:?} to {latest:?} there should be: {changes:?}", self.at);
        self.at = latest;
        for change in changes {
            self.check(change).await;
        }
        self
    }

    /// Whoever has seen a version finds what it wrote, or what was written later.
    async fn check(&mut self, change: Change) {
        let seen = self.seen.entry(change.fingerprint).or_default();
        *seen += 1;
        let is_there = match (*seen, find(&self.store, change.fingerprint).await) {
            (1, Some(_)) | (2 | 3, Some(Entry::Ended(_))) => true,
            (2, Some(Entry::Live(record))) => record.name.as_str() == "Renamed",
            _ => false,
        };
        assert!(is_there, "{:?} is known, and what it wrote is not found", change.version);
    }
}
