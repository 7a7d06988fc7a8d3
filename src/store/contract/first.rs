//! Promises about an account's first key.

use std::sync::Arc;

use super::given::{
    NO_CAP, Store, account, assert_done, assert_nowhere, at_once, done, find, insert, is_live,
    record, said, secret, time,
};
use crate::record::KeyRecord;
use crate::store::{Changes, KeyRegistry, Version, Written};

/// Of any number of concurrent calls for one account, one makes its first key.
pub async fn the_first_key_is_made_once_under_races(store: Store) {
    the_first_key_is_made_once_between_stores(&[store], 10).await;
}

/// Of 32 concurrent calls, through these handles of one store in turn, one makes the account's first
/// key; in each of `rounds` rounds.
pub async fn the_first_key_is_made_once_between_stores(
    stores: &[Arc<dyn KeyRegistry>],
    rounds: usize,
) {
    for round in 0..rounds {
        let owner = account(&format!("first-{round}"));
        let said = at_once(32, |number| {
            let store = Arc::clone(&stores[number % stores.len()]);
            let new = Arc::new(record(&owner, time(0)));
            async move {
                let first = said(store.insert_first(Arc::clone(&new)).await);
                let is_live = is_live(&store, new.fingerprint()).await;
                assert_eq!(is_live, first == Written::Done(()), "insert_first said {first:?}");
                first
            }
        })
        .await;
        assert_eq!(done(&said), 1, "first keys, in round {round}");
        let refused = said.iter().filter(|said| **said == Written::Refused).count();
        assert_eq!(refused, 31, "{said:?}");
        let listed = stores[round % stores.len()].list(&owner).await.unwrap();
        assert_eq!(listed.len(), 1, "listed, in round {round}");
    }
}

/// An account that ever had a key, however that was made and ended, gets no first one.
pub async fn the_first_key_is_not_made_again_after_deletion(store: Store) {
    let owner = account("a");
    let first = Arc::new(record(&owner, time(0)));
    assert_done(store.insert_first(Arc::clone(&first)).await, "insert_first");
    assert_no_first(&store, &record(&owner, time(1)), "has one").await;
    let replaced = store.replace(&owner, &first.id, secret(), time(1)).await;
    assert_done(replaced, "replace");
    assert_done(store.delete(&owner, &first.id, time(1)).await, "delete");
    assert_no_first(&store, &record(&owner, time(2)), "had one and deleted it").await;

    let other = account("b");
    let mut expired = record(&other, time(0));
    expired.expires_at = Some(time(1));
    insert(&store, expired).await;
    assert_no_first(&store, &record(&other, time(2)), "has an expired one").await;
    assert_eq!(store.delete_all(&other, time(3)).await.unwrap(), 1);
    assert_no_first(&store, &record(&other, time(4)), "had one and deleted all").await;
}

async fn assert_no_first(store: &Store, new: &KeyRecord, whose: &str) {
    let first = store.insert_first(Arc::new(new.clone())).await;
    assert_eq!(said(first), Written::Refused, "a first key for an account that {whose}");
    assert_nowhere(store, new).await;
}

/// Where first keys, other keys and deletions come at once, a first key is made only if it is the
/// account's first write, and once.
pub async fn the_first_key_is_the_first_among_other_writes(store: Store) {
    for round in 0..20 {
        let owner = account(&format!("round-{round}"));
        let before = latest(&store).await;
        let outcomes = at_once(12, |number| {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let new = Arc::new(record(&owner, time(0)));
            async move {
                let written = match number % 3 {
                    0 => said(store.insert_first(Arc::clone(&new)).await),
                    1 => said(store.insert(Arc::clone(&new), NO_CAP).await),
                    _ => {
                        store.delete_all(&owner, time(1)).await.unwrap();
                        Written::NotFound
                    }
                };
                (number % 3 == 0, written, new)
            }
        })
        .await;
        let mut firsts = Vec::new();
        for (is_first, written, new) in outcomes {
            let is_done = written == Written::Done(());
            let found = find(&store, new.fingerprint()).await;
            assert_eq!(found.is_some(), is_done, "{written:?}, but found or not found");
            if is_first && is_done {
                firsts.push(new.fingerprint());
            }
        }
        assert!(firsts.len() <= 1, "the first key was made {} times", firsts.len());
        let Changes::Known { changes, .. } = store.changes(before).await.unwrap() else {
            panic!("the last few changes are forgotten");
        };
        if let [first] = firsts[..] {
            assert_eq!(changes[0].fingerprint, first, "a first key was made after another");
        }
        assert_no_first(&store, &record(&owner, time(2)), "had some").await;
    }
}

async fn latest(store: &Store) -> Version {
    match store.changes(Version::default()).await.unwrap() {
        Changes::Known { latest, .. } | Changes::Forgotten { latest } => latest,
    }
}
