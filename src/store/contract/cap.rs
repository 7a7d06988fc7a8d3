//! Promises about how many active keys an account can have.

use std::sync::Arc;
use std::time::Duration;

use super::given::{
    Store, account, active, assert_done, assert_nowhere, at_once, done, find, insert, is_live,
    record, said, time,
};
use crate::store::{KeyRegistry, Written};

/// So few that a round of a race costs little, and more than one.
const CAP: usize = 3;

/// One after the other, as many keys are made as the limit says, for each account; a lower limit
/// lets nothing in and takes nothing away.
pub async fn the_cap_holds_one_after_the_other(store: Store) {
    let owner = account("a");
    for number in 0..25 {
        let inserted = store.insert(Arc::new(record(&owner, time(number))), 25).await;
        assert_eq!(said(inserted), Written::Done(()), "key {} of 25", number + 1);
    }
    for limit in [25, 24, 1, 0] {
        let one_more = Arc::new(record(&owner, time(30)));
        let inserted = store.insert(Arc::clone(&one_more), limit).await;
        assert_eq!(said(inserted), Written::Refused, "25 keys are there, {limit} are allowed");
        assert_nowhere(&store, &one_more).await;
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 25);
    let inserted = store.insert(Arc::new(record(&account("b"), time(30))), 1).await;
    assert_eq!(said(inserted), Written::Done(()), "another account's keys do not count");
    let inserted = store.insert(Arc::new(record(&account("c"), time(0))), 0).await;
    assert_eq!(said(inserted), Written::Refused, "a limit of none");
}

/// Of any number of concurrent calls as many are done as the limit says.
pub async fn the_cap_holds_under_races(store: Store) {
    the_cap_holds_between_stores(&[store], 20).await;
}

/// Of 64 concurrent calls, through these handles of one store in turn, as many are done as the limit
/// says; in each of `rounds` rounds.
pub async fn the_cap_holds_between_stores(stores: &[Arc<dyn KeyRegistry>], rounds: usize) {
    for round in 0..rounds {
        let owner = account(&format!("cap-{round}"));
        let outcomes = at_once(64, |number| {
            let store = Arc::clone(&stores[number % stores.len()]);
            let new = Arc::new(record(&owner, time(0)));
            async move {
                let inserted = said(store.insert(Arc::clone(&new), CAP).await);
                match inserted {
                    Written::Done(()) => {
                        let is_live = is_live(&store, new.fingerprint()).await;
                        assert!(is_live, "insert said that it is done, and find finds nothing");
                    }
                    Written::Refused => {
                        let found = find(&store, new.fingerprint()).await;
                        assert!(found.is_none(), "insert refused the key, and find finds it");
                    }
                    other => panic!("an insert of a new key said {other:?}"),
                }
                (inserted, new)
            }
        })
        .await;
        let inserted: Vec<_> = outcomes.iter().map(|(inserted, _)| *inserted).collect();
        assert_eq!(done(&inserted), CAP, "done of 64, in round {round}");
        let listed = stores[round % stores.len()].list(&owner).await.unwrap();
        assert_eq!(listed.len(), CAP, "listed, in round {round}");
        for key in listed {
            let filed = outcomes.iter().find(|(_, new)| new.id == key.id);
            let said = filed.map(|(inserted, _)| *inserted);
            assert_eq!(said, Some(Written::Done(())), "a key is listed that was not done");
        }
    }
}

/// A key counts until it has expired (at the new key's `created_at`), or was ended.
pub async fn expired_and_ended_keys_do_not_count(store: Store) {
    let owner = account("a");
    for _ in 0..CAP {
        let mut short = record(&owner, time(0));
        short.expires_at = Some(time(10));
        assert_done(store.insert(Arc::new(short), CAP).await, "insert");
    }
    let before = record(&owner, time(10) - Duration::from_millis(1));
    let inserted = store.insert(Arc::new(before), CAP).await;
    assert_eq!(said(inserted), Written::Refused, "a millisecond before they expire");
    for number in 0..CAP {
        let inserted = store.insert(Arc::new(record(&owner, time(10))), CAP).await;
        assert_eq!(said(inserted), Written::Done(()), "expired keys count, {number}");
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 2 * CAP, "expired keys stay listed");
    assert_eq!(active(&store, &owner, time(10)).await, CAP);

    let other = account("b");
    let one = insert(&store, record(&other, time(0))).await;
    assert_done(store.delete(&other, &one.id, time(1)).await, "delete");
    let inserted = store.insert(Arc::new(record(&other, time(2))), 1).await;
    assert_eq!(said(inserted), Written::Done(()), "a deleted key counts");
}
