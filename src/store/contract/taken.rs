//! Promises about fingerprints and ids that are in use.

use std::sync::Arc;

use super::given::{
    NO_CAP, Store, account, assert_done, assert_shown, at_once, colliding, done, ended, find,
    insert, record, said, time,
};
use crate::record::KeyRecord;
use crate::store::Written;

/// A fingerprint that is in use or ever was is not given to another key, of whatever account.
pub async fn a_taken_fingerprint_is_said_and_nothing_is_stored(store: Store) {
    let (owner, other) = (account("a"), account("b"));
    let first = insert(&store, record(&owner, time(0))).await;
    let twin =
        Arc::new(KeyRecord { digest: colliding(&first.digest, 0), ..record(&other, time(0)) });
    assert_taken_by_inserts(&store, &twin).await;
    let ours = Arc::new(KeyRecord { digest: twin.digest.clone(), ..record(&owner, time(1)) });
    for grace_ends in [Some(time(9)), None] {
        let rotated = store.rotate(&owner, &first.id, Arc::clone(&ours), grace_ends, NO_CAP).await;
        assert_eq!(said(rotated), Written::Taken, "rotate onto its own fingerprint");
        assert!(store.get(&owner, &ours.id).await.unwrap().is_none());
    }
    assert_shown(&store, &first).await;

    assert_done(store.delete(&owner, &first.id, time(1)).await, "delete");
    assert_taken_by_inserts(&store, &twin).await;
    ended(&store, first.fingerprint()).await;
}

async fn assert_taken_by_inserts(store: &Store, twin: &Arc<KeyRecord>) {
    assert_eq!(said(store.insert(Arc::clone(twin), NO_CAP).await), Written::Taken, "insert");
    assert_eq!(said(store.insert_first(Arc::clone(twin)).await), Written::Taken, "insert_first");
    assert!(store.list(&twin.account).await.unwrap().is_empty(), "a key that was taken is listed");
    assert!(store.get(&twin.account, &twin.id).await.unwrap().is_none());
}

/// An account has one key of an id.
pub async fn a_taken_id_is_said_and_nothing_is_stored(store: Store) {
    let owner = account("a");
    let first = insert(&store, record(&owner, time(0))).await;
    let twin = Arc::new(KeyRecord { id: first.id.clone(), ..record(&owner, time(1)) });
    assert_eq!(said(store.insert(Arc::clone(&twin), NO_CAP).await), Written::Taken, "insert");
    let second = insert(&store, record(&owner, time(2))).await;
    for grace_ends in [Some(time(9)), None] {
        let rotated = store.rotate(&owner, &second.id, Arc::clone(&twin), grace_ends, NO_CAP);
        assert_eq!(said(rotated.await), Written::Taken, "rotate, {grace_ends:?}");
    }
    assert!(find(&store, twin.fingerprint()).await.is_none(), "a key that was taken is found");
    assert_shown(&store, &first).await;
    assert_shown(&store, &second).await;
    assert_eq!(store.list(&owner).await.unwrap().len(), 2);
}

/// Of any number of concurrent keys with one fingerprint, of as many accounts, one is filed.
pub async fn of_many_keys_with_one_fingerprint_one_is_filed(store: Store) {
    for round in 0..10 {
        let digest = record(&account("any"), time(0)).digest;
        let outcomes = at_once(16, |number| {
            let store = Arc::clone(&store);
            let owner = account(&format!("round-{round}-{number}"));
            let digest = colliding(&digest, number);
            let new = Arc::new(KeyRecord { digest, ..record(&owner, time(0)) });
            async move { (said(store.insert(Arc::clone(&new), NO_CAP).await), new) }
        })
        .await;
        let said: Vec<_> = outcomes.iter().map(|(said, _)| *said).collect();
        assert_eq!(done(&said), 1, "of 16 keys with one fingerprint: {said:?}");
        for (said, new) in outcomes {
            if said == Written::Done(()) {
                assert_shown(&store, &new).await;
            } else {
                assert_eq!(said, Written::Taken);
                assert!(store.list(&new.account).await.unwrap().is_empty(), "taken, yet listed");
            }
        }
    }
}

/// Of any number of concurrent keys with one id, of one account, one is filed.
pub async fn of_many_keys_with_one_id_one_is_filed(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let id = record(&owner, time(0)).id;
        let said = at_once(16, |_| {
            let store = Arc::clone(&store);
            let new = Arc::new(KeyRecord { id: id.clone(), ..record(&owner, time(0)) });
            async move {
                let said = said(store.insert(Arc::clone(&new), NO_CAP).await);
                let is_found = find(&store, new.fingerprint()).await.is_some();
                assert_eq!(is_found, said == Written::Done(()), "insert said {said:?}");
                said
            }
        })
        .await;
        assert_eq!(done(&said), 1, "of 16 keys with one id: {said:?}");
        assert!(said.iter().all(|said| matches!(said, Written::Done(()) | Written::Taken)));
        assert_eq!(store.list(&owner).await.unwrap().len(), 1);
    }
}
