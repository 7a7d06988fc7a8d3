//! Promises about rotation: a successor beside the old key, or in its place.

use std::sync::Arc;

use super::given::{
    NO_CAP, Store, account, active, assert_done, assert_nowhere, assert_shown, at_once, done,
    ended, find, insert, record, said, secret, shown, time, while_watched,
};
use crate::record::{EndCause, KeyRecord};
use crate::store::Written;

/// With a grace, the successor stands beside the old key, which expires when the grace ends, names
/// the successor, and is otherwise as it was.
pub async fn rotating_files_the_successor_and_limits_the_old(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let mut successor = record(&owner, time(10));
    successor.scopes = "a:read".parse().unwrap();
    successor.expires_at = Some(time(1000));
    let successor = Arc::new(successor);
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(70)), 25).await;
    assert_done(rotated, "rotate");
    let expected = KeyRecord {
        expires_at: Some(time(70)),
        replaced_by: Some(successor.id.clone()),
        replaced_at: Some(time(10)),
        ..(*old).clone()
    };
    assert_shown(&store, &expected).await;
    assert_shown(&store, &successor).await;
}

/// A key that was to expire before the grace ends still does.
pub async fn rotating_never_lengthens_a_life(store: Store) {
    let owner = account("a");
    let mut short = record(&owner, time(0));
    short.expires_at = Some(time(20));
    let short = insert(&store, short).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &short.id, successor, Some(time(70)), 25).await;
    assert_done(rotated, "rotate");
    assert_eq!(shown(&store, &short).await.expires_at, Some(time(20)));
}

/// While both keys work, both count towards the cap; what is refused changes nothing.
pub async fn rotating_counts_both_during_a_grace(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotate =
        |limit| store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(70)), limit);
    assert_eq!(said(rotate(2).await), Written::Refused, "a third key of two");
    assert_shown(&store, &old).await;
    assert_nowhere(&store, &successor).await;
    assert_done(rotate(3).await, "rotate");
}

/// A grace that is over when it begins takes up no room.
pub async fn rotating_with_a_grace_that_is_over_fits_at_the_cap(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(10)), 1).await;
    assert_done(rotated, "rotate");
    assert_shown(&store, &successor).await;
    assert_eq!(shown(&store, &old).await.expires_at, Some(time(10)));
}

/// Without a grace, the successor takes the old key's place, at the cap too, and the old secret is a
/// tombstone: no clock that is set back brings it back.
pub async fn rotating_without_grace_fits_at_the_cap_and_ends_the_old_for_good(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&successor), None, 1).await;
    assert_done(rotated, "rotate");
    assert_eq!(store.list(&owner).await.unwrap().len(), 1);
    assert_shown(&store, &successor).await;
    let tombstone = ended(&store, old.fingerprint()).await;
    let right = old.tombstone(EndCause::Rotated, time(10));
    assert_eq!(format!("{tombstone:?}"), format!("{right:?}"));
    assert!(store.get(&owner, &old.id).await.unwrap().is_none(), "get gives an ended key");
}

/// An expired key did not count, so its end without a grace makes no room at the cap.
pub async fn rotating_an_expired_key_makes_no_room(store: Store) {
    let owner = account("a");
    insert(&store, record(&owner, time(1))).await;
    // Some time ago, and at this very instant.
    for expires_at in [time(5), time(10)] {
        let mut expired = record(&owner, time(0));
        expired.expires_at = Some(expires_at);
        let expired = insert(&store, expired).await;
        for grace_ends in [None, Some(time(70))] {
            let successor = Arc::new(record(&owner, time(10)));
            let rotated = store.rotate(&owner, &expired.id, Arc::clone(&successor), grace_ends, 1);
            assert_eq!(said(rotated.await), Written::Refused, "a second of one, {grace_ends:?}");
            assert_nowhere(&store, &successor).await;
        }
        assert_shown(&store, &expired).await;
    }
}

/// A key that has a successor gets no other, with or without a grace.
pub async fn a_key_is_rotated_once(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let first = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&first), Some(time(70)), 25).await;
    assert_done(rotated, "rotate");
    let superseded = shown(&store, &old).await;
    for grace_ends in [Some(time(90)), None] {
        let second = Arc::new(record(&owner, time(11)));
        let rotated = store.rotate(&owner, &old.id, Arc::clone(&second), grace_ends, 25).await;
        assert_eq!(said(rotated), Written::Superseded, "{grace_ends:?}");
        assert_nowhere(&store, &second).await;
    }
    assert_shown(&store, &superseded).await;
    assert_eq!(superseded.replaced_by.as_ref(), Some(&first.id));
}

/// A key that has a successor gets no new secret, which would die with the grace.
pub async fn a_key_that_was_rotated_gets_no_new_secret(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, successor, Some(time(70)), 25).await;
    assert_done(rotated, "rotate");
    let superseded = shown(&store, &old).await;
    let new = secret();
    let replaced = store.replace(&owner, &old.id, new.clone(), time(11)).await;
    assert_eq!(said(replaced), Written::Superseded, "a new secret for a key that was rotated");
    assert!(find(&store, new.digest.fingerprint()).await.is_none());
    assert_shown(&store, &superseded).await;
}

/// Of any number of concurrent rotations of one key, one is done.
pub async fn of_many_rotations_one_is_done(store: Store) {
    for round in 0..8 {
        let grace_ends = (round % 2 == 0).then(|| time(50));
        let owner = account(&format!("round-{round}"));
        let old = insert(&store, record(&owner, time(0))).await;
        let said = at_once(16, |_| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), old.id.clone());
            let new = Arc::new(record(&owner, time(1)));
            async move {
                let said = said(store.rotate(&owner, &id, Arc::clone(&new), grace_ends, 25).await);
                let is_found = find(&store, new.fingerprint()).await.is_some();
                assert_eq!(is_found, said == Written::Done(()), "rotate said {said:?}");
                said
            }
        })
        .await;
        assert_eq!(done(&said), 1, "of 16 rotations, {grace_ends:?}: {said:?}");
        let late = if grace_ends.is_some() { Written::Superseded } else { Written::NotFound };
        assert!(said.iter().all(|said| [Written::Done(()), late].contains(said)), "{said:?}");
        let left = active(&store, &owner, time(1)).await;
        assert_eq!(left, 1 + usize::from(grace_ends.is_some()));
    }
}

/// A successor of another account is not found; one with an id that the account has is taken.
pub async fn a_successor_belongs_to_the_same_account_and_has_an_id_of_its_own(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    for grace_ends in [Some(time(70)), None] {
        let theirs = Arc::new(record(&account("b"), time(1)));
        let rotated = store.rotate(&owner, &old.id, Arc::clone(&theirs), grace_ends, 25).await;
        assert_eq!(said(rotated), Written::NotFound, "a successor of another account");
        assert_nowhere(&store, &theirs).await;
    }
    let twin = Arc::new(KeyRecord { id: old.id.clone(), ..record(&owner, time(1)) });
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&twin), Some(time(70)), 25).await;
    assert_eq!(said(rotated), Written::Taken, "a successor with the id of the old key");
    assert!(find(&store, twin.fingerprint()).await.is_none());
    assert_shown(&store, &old).await;
}

/// At every moment the list shows a rotation whole: a key that names a successor with the successor,
/// and, without a grace, one of the two.
pub async fn a_rotation_is_seen_whole(store: Store) {
    let (with, without) = (account("with"), account("without"));
    let first = insert(&store, record(&with, time(0))).await;
    let second = insert(&store, record(&without, time(0))).await;
    let look = {
        let (store, with, without) = (Arc::clone(&store), with.clone(), without.clone());
        move |(), _| {
            let (store, with, without) = (Arc::clone(&store), with.clone(), without.clone());
            async move {
                let listed = store.list(&with).await.unwrap();
                for successor in listed.iter().filter_map(|key| key.replaced_by.as_ref()) {
                    let is_listed = listed.iter().any(|key| key.id == *successor);
                    assert!(is_listed, "a key names a successor that is not there");
                }
                let superseded = listed.iter().filter(|key| key.replaced_by.is_some()).count();
                assert_eq!(listed.len(), superseded + 1, "a successor whose old key is as it was");
                let listed = store.list(&without).await.unwrap().len();
                assert_eq!(listed, 1, "keys in the list while one takes the other's place");
            }
        }
    };
    let rotating = async {
        for (owner, mut old, grace_ends) in [(with, first, Some(time(90))), (without, second, None)]
        {
            for number in 1..16 {
                let new = Arc::new(record(&owner, time(number)));
                let rotated =
                    store.rotate(&owner, &old.id, Arc::clone(&new), grace_ends, NO_CAP).await;
                assert_done(rotated, "rotate");
                old = new;
            }
        }
    };
    while_watched(vec![(); 2], look, rotating).await;
}
