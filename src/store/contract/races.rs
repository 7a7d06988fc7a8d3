//! Promises about different writes to one account at once: some order of them is what happened.

use std::sync::Arc;

use super::given::{
    NO_CAP, Store, account, active, assert_done, assert_nowhere, at_once, done, ended, find,
    insert, is_live, live, record, said, secret, shown, time,
};
use crate::record::EndCause;
use crate::store::{Entry, Use, Written};

const DONE: Written<()> = Written::Done(());

/// A key that is deleted and given a new secret at once ends deleted, under both secrets if there
/// are two.
pub async fn deleting_and_replacing_race_to_one_truth(store: Store) {
    for round in 0..30 {
        let owner = account(&format!("round-{round}"));
        let key = insert(&store, record(&owner, time(0))).await;
        let new = secret();
        let outcomes = at_once(2, |number| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), key.id.clone());
            let new = new.clone();
            async move {
                if number == 0 {
                    said(store.delete(&owner, &id, time(1)).await)
                } else {
                    said(store.replace(&owner, &id, new, time(1)).await)
                }
            }
        })
        .await;
        assert_eq!(outcomes[0], DONE, "the delete is lost");
        let first = ended(&store, key.fingerprint()).await.cause;
        if outcomes[1] == DONE {
            assert_eq!(first, EndCause::Regenerated);
            let second = ended(&store, new.digest.fingerprint()).await.cause;
            assert_eq!(second, EndCause::Deleted, "deleted, yet its new secret");
        } else {
            assert_eq!((outcomes[1], first), (Written::NotFound, EndCause::Deleted));
            assert!(find(&store, new.digest.fingerprint()).await.is_none());
        }
        assert!(store.list(&owner).await.unwrap().is_empty(), "deleted, yet listed");
    }
}

/// A key that is deleted and rotated at once ends; its successor is there exactly if the rotation
/// was done, and without a grace one of the two is done.
pub async fn deleting_and_rotating_race_to_one_truth(store: Store) {
    for round in 0..30 {
        let grace_ends = (round % 2 == 0).then(|| time(90));
        let owner = account(&format!("round-{round}"));
        let old = insert(&store, record(&owner, time(0))).await;
        let new = Arc::new(record(&owner, time(1)));
        let outcomes = at_once(2, |number| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), old.id.clone());
            let new = Arc::clone(&new);
            async move {
                if number == 0 {
                    said(store.delete(&owner, &id, time(1)).await)
                } else {
                    said(store.rotate(&owner, &id, new, grace_ends, NO_CAP).await)
                }
            }
        })
        .await;
        let cause = ended(&store, old.fingerprint()).await.cause;
        let right = match (outcomes[0], outcomes[1], grace_ends) {
            (DONE, Written::NotFound, _) | (DONE, DONE, Some(_)) => EndCause::Deleted,
            (Written::NotFound, DONE, None) => EndCause::Rotated,
            other => panic!("delete, rotate and the grace: {other:?}"),
        };
        assert_eq!(cause, right);
        if outcomes[1] == DONE {
            let left = shown(&store, &new).await;
            assert_eq!(left.expires_at, None);
        } else {
            assert_nowhere(&store, &new).await;
        }
        let listed = store.list(&owner).await.unwrap().len();
        assert_eq!(listed, usize::from(outcomes[1] == DONE), "keys in the list");
    }
}

/// A key that is rotated without a grace and given a new secret at once leaves the successor alone
/// live; the new secret, if there was one, ended with the key.
pub async fn replacing_and_rotating_race_to_one_truth(store: Store) {
    for round in 0..30 {
        let owner = account(&format!("round-{round}"));
        let old = insert(&store, record(&owner, time(0))).await;
        let (new, successor) = (secret(), Arc::new(record(&owner, time(1))));
        let outcomes = at_once(2, |number| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), old.id.clone());
            let (new, successor) = (new.clone(), Arc::clone(&successor));
            async move {
                if number == 0 {
                    said(store.replace(&owner, &id, new, time(1)).await)
                } else {
                    said(store.rotate(&owner, &id, successor, None, 1).await)
                }
            }
        })
        .await;
        assert_eq!(outcomes[1], DONE, "the rotation is lost");
        let cause = ended(&store, old.fingerprint()).await.cause;
        if outcomes[0] == DONE {
            assert_eq!(cause, EndCause::Regenerated);
            let second = ended(&store, new.digest.fingerprint()).await.cause;
            assert_eq!(second, EndCause::Rotated);
        } else {
            assert_eq!((outcomes[0], cause), (Written::NotFound, EndCause::Rotated));
            assert!(find(&store, new.digest.fingerprint()).await.is_none());
        }
        live(&store, successor.fingerprint()).await;
        assert_eq!(store.list(&owner).await.unwrap().len(), 1);
    }
}

/// Of keys that are made while all are deleted, each is either ended and counted or live and listed.
pub async fn deleting_all_and_inserting_race_to_one_truth(store: Store) {
    for round in 0..15 {
        let owner = account(&format!("round-{round}"));
        let mut keys = vec![insert(&store, record(&owner, time(0))).await];
        let outcomes = at_once(12, |number| {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let new = (number % 3 != 0).then(|| Arc::new(record(&owner, time(0))));
            async move {
                let Some(new) = new else {
                    return Err(store.delete_all(&owner, time(1)).await.unwrap());
                };
                assert_done(store.insert(Arc::clone(&new), NO_CAP).await, "insert");
                Ok(new)
            }
        })
        .await;
        let mut deleted = 0;
        for outcome in outcomes {
            match outcome {
                Ok(key) => keys.push(key),
                Err(count) => deleted += count,
            }
        }
        let listed = store.list(&owner).await.unwrap();
        assert_eq!(deleted + listed.len(), keys.len(), "every key is counted once");
        for key in keys {
            let is_listed = listed.iter().any(|other| other.id == key.id);
            match find(&store, key.fingerprint()).await {
                Some(Entry::Live(_)) => assert!(is_listed, "found live, but not listed"),
                Some(Entry::Ended(_)) => assert!(!is_listed, "ended, but listed"),
                None => panic!("a key that was made is not found"),
            }
        }
    }
}

/// Rotations with a grace and new keys together reach the cap, and no further.
pub async fn rotations_and_creations_race_to_the_cap_and_no_further(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let mut old = Vec::new();
        for _ in 0..8 {
            old.push(insert(&store, record(&owner, time(0))).await.id.clone());
        }
        let said = at_once(16, |number| {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let (id, new) = (old[number / 2].clone(), Arc::new(record(&owner, time(1))));
            async move {
                let said = said(if number % 2 == 0 {
                    store.insert(Arc::clone(&new), 11).await
                } else {
                    store.rotate(&owner, &id, Arc::clone(&new), Some(time(100)), 11).await
                });
                let is_live = is_live(&store, new.fingerprint()).await;
                assert_eq!(is_live, said == DONE, "the write said {said:?}");
                said
            }
        })
        .await;
        assert_eq!(done(&said), 3, "new keys beside 8, of 11 allowed: {said:?}");
        assert_eq!(active(&store, &owner, time(1)).await, 11);
    }
}

/// While keys at the cap are rotated without a grace, no other key slips into the place of an old
/// one.
pub async fn a_rotation_at_the_cap_lets_nothing_else_in(store: Store) {
    for round in 0..15 {
        let owner = account(&format!("round-{round}"));
        let mut old = Vec::new();
        for _ in 0..3 {
            old.push(insert(&store, record(&owner, time(0))).await.id.clone());
        }
        let said = at_once(12, |number| {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let (id, new) = (old.get(number).cloned(), Arc::new(record(&owner, time(1))));
            async move {
                said(match id {
                    Some(id) => store.rotate(&owner, &id, new, None, 3).await,
                    None => store.insert(new, 3).await,
                })
            }
        })
        .await;
        let (rotated, inserted) = said.split_at(3);
        assert!(rotated.iter().all(|said| *said == DONE), "rotations at the cap: {rotated:?}");
        let all_refused = inserted.iter().all(|said| *said == Written::Refused);
        assert!(all_refused, "new keys at the cap: {inserted:?}");
        assert_eq!(active(&store, &owner, time(1)).await, 3);
    }
}

/// A name, a secret, a successor and a use that are written to one key at once are all there
/// afterwards.
pub async fn writes_to_one_key_do_not_undo_each_other(store: Store) {
    for round in 0..20 {
        let owner = account(&format!("round-{round}"));
        let key = insert(&store, record(&owner, time(0))).await;
        let (new, successor) = (secret(), Arc::new(record(&owner, time(1))));
        let outcomes = at_once(4, |number| {
            let (store, key) = (Arc::clone(&store), Arc::clone(&key));
            let (new, successor) = (new.clone(), Arc::clone(&successor));
            async move {
                let (owner, id) = (&key.account, &key.id);
                match number {
                    0 => said(store.rename(owner, id, "Renamed".parse().unwrap()).await),
                    1 => said(store.replace(owner, id, new, time(1)).await),
                    2 => said(store.rotate(owner, id, successor, Some(time(90)), NO_CAP).await),
                    _ => {
                        // Of either secret: the one that is live is noted.
                        let secrets = [key.fingerprint(), new.digest.fingerprint()];
                        let uses = secrets.map(|secret| Use::new(secret, time(2)));
                        store.mark_used(&uses).await.unwrap();
                        DONE
                    }
                }
            }
        })
        .await;
        // A key that was rotated before gets no new secret.
        let is_replaced = outcomes[1] != Written::Superseded;
        let right = [DONE, if is_replaced { DONE } else { Written::Superseded }, DONE, DONE];
        assert_eq!(outcomes, right);
        let now = shown(&store, &key).await;
        assert_eq!(now.name.as_str(), "Renamed", "the new name is lost");
        let (digest, hint) =
            if is_replaced { (&new.digest, &new.hint) } else { (&key.digest, &key.hint) };
        let is_right = now.fingerprint() == digest.fingerprint() && now.hint == *hint;
        assert!(is_right, "the new secret is lost, or there though it was refused");
        assert_eq!(now.expires_at, Some(time(90)), "the end of the grace is lost");
        assert_eq!(now.replaced_by.as_ref(), Some(&successor.id), "the successor is lost");
        assert_eq!(now.last_used_at, Some(time(2)), "the use is lost");
        if is_replaced {
            ended(&store, key.fingerprint()).await;
        }
        live(&store, successor.fingerprint()).await;
    }
}
