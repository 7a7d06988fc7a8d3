//! Promises about the end of keys: it is seen at once, and it is for good.

use std::sync::Arc;
use std::time::SystemTime;

use super::given::{
    NO_CAP, Store, account, assert_done, assert_shown, at_once, colliding, done, ended, find,
    insert, is_live, live, record, said, secret, time, while_watched,
};
use crate::record::{AccountId, EndCause, Hint, KeyRecord};
use crate::store::{KeyRegistry, NewSecret, Use, Written};

/// A deleted key is gone from list and get, is not found by another write, and its secret leads to a
/// tombstone that says whose it was, which it was, why it ended and when.
pub async fn deleting_leaves_a_tombstone_for_good(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let renamed = store.rename(&owner, &key.id, "Last name".parse().unwrap()).await.unwrap();
    let Written::Done(key) = renamed else { panic!("rename said {renamed:?}") };
    assert_done(store.delete(&owner, &key.id, time(5)).await, "delete");
    assert_eq!(said(store.delete(&owner, &key.id, time(6)).await), Written::NotFound, "again");
    assert_eq!(store.delete_all(&owner, time(7)).await.unwrap(), 0);
    let renamed = store.rename(&owner, &key.id, "Risen".parse().unwrap()).await;
    assert_eq!(said(renamed), Written::NotFound, "rename");
    let new = secret();
    let replaced = store.replace(&owner, &key.id, new.clone(), time(7)).await;
    assert_eq!(said(replaced), Written::NotFound, "replace");
    assert!(find(&store, new.digest.fingerprint()).await.is_none());
    for grace_ends in [Some(time(90)), None] {
        let successor = Arc::new(record(&owner, time(7)));
        let rotated = store.rotate(&owner, &key.id, successor, grace_ends, NO_CAP).await;
        assert_eq!(said(rotated), Written::NotFound, "rotate");
    }
    assert!(store.get(&owner, &key.id).await.unwrap().is_none(), "get gives a deleted key");
    assert!(store.list(&owner).await.unwrap().is_empty(), "list gives a deleted key");
    let tombstone = ended(&store, key.fingerprint()).await;
    let right = key.tombstone(EndCause::Deleted, time(5));
    assert_eq!(format!("{tombstone:?}"), format!("{right:?}"));
}

/// However a secret ended, no write makes it live again or changes its tombstone.
pub async fn nothing_brings_an_ended_secret_back(store: Store) {
    let owner = account("a");
    let deleted = insert(&store, record(&owner, time(0))).await;
    assert_done(store.delete(&owner, &deleted.id, time(5)).await, "delete");
    let all = insert(&store, record(&owner, time(0))).await;
    assert_eq!(store.delete_all(&owner, time(5)).await.unwrap(), 1);
    let replaced = insert(&store, record(&owner, time(0))).await;
    let replace = store.replace(&owner, &replaced.id, secret(), time(5)).await;
    assert_done(replace, "replace");
    let rotated = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(5)));
    let rotate = store.rotate(&owner, &rotated.id, successor, None, NO_CAP).await;
    assert_done(rotate, "rotate");
    let rehashed = insert(&store, record(&owner, time(0))).await;
    let (print, new) = (rehashed.fingerprint(), secret().digest);
    assert_done(store.rehash(&owner, &rehashed.id, print, new, time(5)).await, "rehash");
    for (old, cause) in [
        (deleted, EndCause::Deleted),
        (all, EndCause::Deleted),
        (replaced, EndCause::Regenerated),
        (rotated, EndCause::Rotated),
        (rehashed, EndCause::Rehashed),
    ] {
        try_to_bring_back(&store, &owner, &old).await;
        let tombstone = ended(&store, old.fingerprint()).await;
        let right = old.tombstone(cause, time(5));
        assert_eq!(format!("{tombstone:?}"), format!("{right:?}"), "the tombstone has changed");
    }
}

/// With the very secret and with one that collides with it.
async fn try_to_bring_back(store: &Store, owner: &AccountId, old: &KeyRecord) {
    let bystander = insert(store, record(owner, time(6))).await;
    for digest in [old.digest.clone(), colliding(&old.digest, 0)] {
        for owner in [owner, &account("b")] {
            let again = KeyRecord { digest: digest.clone(), ..record(owner, time(6)) };
            let inserted = store.insert(Arc::new(again.clone()), NO_CAP).await;
            assert_eq!(said(inserted), Written::Taken, "insert");
            let first = said(store.insert_first(Arc::new(again)).await);
            assert!(matches!(first, Written::Taken | Written::Refused), "insert_first: {first:?}");
        }
        let again = NewSecret::new(digest.clone(), Hint::default());
        let replaced = store.replace(owner, &bystander.id, again, time(7)).await;
        assert_eq!(said(replaced), Written::Taken, "replace");
        let print = bystander.fingerprint();
        let rehashed = store.rehash(owner, &bystander.id, print, digest.clone(), time(7)).await;
        assert_eq!(said(rehashed), Written::Taken, "rehash");
        let again = Arc::new(KeyRecord { digest, ..record(owner, time(6)) });
        for grace_ends in [Some(time(90)), None] {
            let rotated =
                store.rotate(owner, &bystander.id, Arc::clone(&again), grace_ends, NO_CAP);
            assert_eq!(said(rotated.await), Written::Taken, "rotate");
        }
    }
    store.mark_used(&[Use::new(old.fingerprint(), time(8))]).await.unwrap();
    assert!(store.list(&account("b")).await.unwrap().is_empty());
    assert_shown(store, &bystander).await;
}

/// `delete_all` ends every key of the account, expired ones included, says how many, and leaves other
/// accounts alone.
pub async fn deleting_all_ends_expired_ones_too_and_only_this_account_s(store: Store) {
    let (ours, theirs) = (account("a"), account("b"));
    let mut keys = vec![insert(&store, record(&ours, time(0))).await];
    let mut expired = record(&ours, time(0));
    expired.expires_at = Some(time(1));
    keys.push(insert(&store, expired).await);
    let gone = insert(&store, record(&ours, time(0))).await;
    assert_done(store.delete(&ours, &gone.id, time(2)).await, "delete");
    let other = insert(&store, record(&theirs, time(0))).await;
    assert_eq!(store.delete_all(&ours, time(5)).await.unwrap(), 2);
    assert!(store.list(&ours).await.unwrap().is_empty());
    for key in keys {
        let tombstone = ended(&store, key.fingerprint()).await;
        let right = key.tombstone(EndCause::Deleted, time(5));
        assert_eq!(format!("{tombstone:?}"), format!("{right:?}"));
    }
    assert_eq!(ended(&store, gone.fingerprint()).await.ended_at, time(2), "ended before");
    assert_shown(&store, &other).await;
}

/// Of any number of concurrent deletions of one key, one is done, and its time stands.
pub async fn of_many_deletions_one_is_done(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let key = insert(&store, record(&owner, time(0))).await;
        let said = at_once(16, |number| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), key.id.clone());
            async move { said(store.delete(&owner, &id, time(number as u64)).await) }
        })
        .await;
        assert_eq!(done(&said), 1, "of 16 deletions: {said:?}");
        assert!(said.iter().all(|said| matches!(said, Written::Done(()) | Written::NotFound)));
        let at = |at: SystemTime| said[usize::try_from(seconds(at)).unwrap()];
        let ended_at = ended(&store, key.fingerprint()).await.ended_at;
        assert_eq!(at(ended_at), Written::Done(()), "the time is that of a call that was late");
    }
}

fn seconds(since_start: SystemTime) -> u64 {
    since_start.duration_since(time(0)).unwrap().as_secs()
}

/// No lookup that starts after `delete` has returned gives the record.
pub async fn a_delete_is_seen_by_every_lookup_that_starts_after_it(store: Store) {
    a_delete_is_seen_between_stores(&[store], 20).await;
}

/// No lookup that starts after `delete` has returned gives the record, whichever of these handles of
/// one store deletes and looks up; in each of `rounds` rounds.
pub async fn a_delete_is_seen_between_stores(stores: &[Arc<dyn KeyRegistry>], rounds: usize) {
    for round in 0..rounds {
        let owner = account(&format!("delete-{round}"));
        let store = &stores[round % stores.len()];
        let key = insert(store, record(&owner, time(0))).await;
        let fingerprint = key.fingerprint();
        // An answer from before that is remembered is one that the delete must reach.
        for store in stores {
            live(store, fingerprint).await;
        }
        let look = move |store: Store, was_deleted: bool| async move {
            let is_live = is_live(&store, fingerprint).await;
            assert!(!(was_deleted && is_live), "accepted after the delete had returned");
            store
        };
        let deleting = async {
            let deleted = if round % 4 == 0 {
                store.delete_all(&owner, time(1)).await.map(|_| Written::Done(()))
            } else {
                store.delete(&owner, &key.id, time(1)).await
            };
            assert_done(deleted, "delete");
        };
        let watchers = stores.iter().cycle().take(stores.len().max(4)).cloned().collect();
        while_watched(watchers, look, deleting).await;
    }
}
