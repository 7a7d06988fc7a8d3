//! The promises of `KeyStore` and `KeyRegistry`, each as a function that runs against every store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_api_key::{
    AccountId, CacheSettings, CachedStore, EndCause, Entry, Fingerprint, KeyRecord, KeyRegistry,
    MemoryStore, NewSecret, SqliteStore, Written,
};

use crate::support::{account, digest, record, soon, time};

type Store = Arc<dyn KeyRegistry>;

/// Runs each promise against each store, every time against an empty one.
macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let store = super::Arc::new(super::MemoryStore::new());
                super::soon(super::$promise(store)).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
                super::soon(super::$promise(super::Arc::new(store))).await;
            })*
        }
        mod cached_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let store = super::MemoryStore::new();
                let store = super::CachedStore::new(store, super::CacheSettings::default());
                super::soon(super::$promise(super::Arc::new(store))).await;
            })*
        }
        mod cached_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
                let store = super::CachedStore::new(store, super::CacheSettings::default());
                super::soon(super::$promise(super::Arc::new(store))).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let store = crate::redis::shared(stringify!($promise)).await;
                super::soon(super::$promise(super::Arc::new(store))).await;
            })*
        }
    };
}

contract! {
    what_was_inserted_is_found_listed_and_got
    nothing_is_found_where_nothing_is
    the_list_is_in_order_of_age
    another_account_s_key_is_not_found
    the_cap_holds_one_after_the_other
    the_cap_holds_under_races
    expired_keys_do_not_count
    the_first_key_is_made_once_under_races
    the_first_key_is_not_made_again_after_deletion
    a_taken_fingerprint_is_said_and_nothing_is_stored
    a_taken_id_is_said_and_nothing_is_stored
    renaming_keeps_everything_else
    replacing_ends_the_old_secret_and_keeps_everything_else
    replacing_by_a_taken_secret_changes_nothing
    rotating_files_the_successor_and_limits_the_old
    rotating_never_lengthens_a_life
    rotating_counts_both_during_a_grace
    rotating_without_grace_fits_at_the_cap_and_ends_the_old_for_good
    a_key_is_rotated_once
    a_successor_belongs_to_the_same_account_and_has_an_id_of_its_own
    rotations_and_creations_race_to_the_cap_and_no_further
    deleting_leaves_a_tombstone_for_good
    of_many_deletions_one_is_done
    of_many_rotations_one_is_done
    deleting_and_replacing_race_to_one_truth
    deleting_all_ends_expired_ones_too_and_only_this_account_s
    a_delete_is_seen_by_every_lookup_that_starts_after_it
    odd_texts_come_back_as_they_were
    times_come_back_to_the_millisecond
    a_write_whose_caller_goes_away_is_whole
}

async fn find(store: &Store, fingerprint: Fingerprint) -> Option<Entry> {
    store.find(fingerprint).await.unwrap()
}

async fn found_live(store: &Store, record: &KeyRecord) -> bool {
    matches!(find(store, record.fingerprint()).await, Some(Entry::Live(_)))
}

async fn insert(store: &Store, record: KeyRecord) -> Arc<KeyRecord> {
    let record = Arc::new(record);
    assert_eq!(store.insert(Arc::clone(&record), 1000).await.unwrap(), Written::Done(()));
    record
}

/// Everything of a record, for comparison.
fn all(record: &KeyRecord) -> String {
    format!("{record:?} {:?}", record.digest.as_bytes())
}

fn secret(text: &str) -> NewSecret {
    NewSecret::new(digest(text), format!("…{}", &text[text.len() - 1..]).parse().unwrap())
}

async fn what_was_inserted_is_found_listed_and_got(store: Store) {
    let owner = account("a");
    let mut made = record(&owner, time(0));
    made.environment = Some("live".parse().unwrap());
    made.scopes = "a:read b:write".parse().unwrap();
    made.hint = "acme_live_…abcd".parse().unwrap();
    made.expires_at = Some(time(100));
    let made = insert(&store, made).await;
    let Some(Entry::Live(found)) = find(&store, made.fingerprint()).await else {
        panic!("not found");
    };
    assert_eq!(all(&found), all(&made));
    let listed = store.list(&owner).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(all(&listed[0]), all(&made));
    assert_eq!(all(&store.get(&owner, &made.id).await.unwrap().unwrap()), all(&made));
}

async fn nothing_is_found_where_nothing_is(store: Store) {
    assert!(find(&store, digest("nothing").fingerprint()).await.is_none());
    assert!(store.list(&account("a")).await.unwrap().is_empty());
    let owner = account("a");
    let id = "key_none".parse().unwrap();
    assert!(store.get(&owner, &id).await.unwrap().is_none());
    assert_eq!(store.delete(&owner, &id, time(0)).await.unwrap(), Written::NotFound);
    assert_eq!(store.delete_all(&owner, time(0)).await.unwrap(), 0);
    let renamed = store.rename(&owner, &id, "x".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::NotFound));
    let replaced = store.replace(&owner, &id, secret("x"), time(0)).await.unwrap();
    assert!(matches!(replaced, Written::NotFound));
    let successor = Arc::new(record(&owner, time(0)));
    let rotated =
        store.rotate(&owner, &id, Arc::clone(&successor), Some(time(9)), 25).await.unwrap();
    assert_eq!(rotated, Written::NotFound);
    assert!(!found_live(&store, &successor).await);
}

async fn the_list_is_in_order_of_age(store: Store) {
    let owner = account("a");
    let mut expected = Vec::new();
    for seconds in [3, 1, 2, 1] {
        let made = insert(&store, record(&owner, time(seconds))).await;
        expected.push((made.created_at, made.id.clone()));
    }
    expected.sort();
    let listed = store.list(&owner).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|key| (key.created_at, key.id.clone())).collect();
    assert_eq!(listed, expected);
}

async fn another_account_s_key_is_not_found(store: Store) {
    let (ours, theirs) = (account("a"), account("b"));
    let key = insert(&store, record(&ours, time(0))).await;
    insert(&store, record(&theirs, time(0))).await;
    assert!(store.get(&theirs, &key.id).await.unwrap().is_none());
    let renamed = store.rename(&theirs, &key.id, "stolen".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::NotFound));
    let replaced = store.replace(&theirs, &key.id, secret("stolen"), time(1)).await.unwrap();
    assert!(matches!(replaced, Written::NotFound));
    let successor = Arc::new(record(&theirs, time(1)));
    let rotated = store.rotate(&theirs, &key.id, successor, Some(time(1)), 25).await.unwrap();
    assert_eq!(rotated, Written::NotFound);
    assert_eq!(store.delete(&theirs, &key.id, time(1)).await.unwrap(), Written::NotFound);
    assert_eq!(store.delete_all(&theirs, time(1)).await.unwrap(), 1);
    assert_eq!(all(&store.get(&ours, &key.id).await.unwrap().unwrap()), all(&key));
    assert!(found_live(&store, &key).await);
}

async fn the_cap_holds_one_after_the_other(store: Store) {
    let owner = account("a");
    for number in 0..25 {
        let written = store.insert(Arc::new(record(&owner, time(number))), 25).await.unwrap();
        assert_eq!(written, Written::Done(()), "{number}");
    }
    let refused = Arc::new(record(&owner, time(30)));
    assert_eq!(store.insert(Arc::clone(&refused), 25).await.unwrap(), Written::Refused);
    assert!(!found_live(&store, &refused).await);
    let other = Arc::new(record(&account("b"), time(30)));
    assert_eq!(store.insert(other, 25).await.unwrap(), Written::Done(()));
    assert_eq!(
        store.insert(Arc::new(record(&account("c"), time(0))), 0).await.unwrap(),
        Written::Refused
    );
}

/// Starts `many` calls at once and waits for all of them.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    many: usize,
    call: impl Fn(usize) -> F,
) -> Vec<T> {
    let barrier = Arc::new(tokio::sync::Barrier::new(many));
    let calls: Vec<_> = (0..many)
        .map(|number| {
            let (barrier, call) = (Arc::clone(&barrier), call(number));
            tokio::spawn(async move {
                barrier.wait().await;
                call.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    results
}

async fn active(store: &Store, owner: &AccountId, now: SystemTime) -> usize {
    let listed = store.list(owner).await.unwrap();
    listed.iter().filter(|record| !record.is_expired(now)).count()
}

async fn the_cap_holds_under_races(store: Store) {
    for round in 0..20 {
        let owner = account(&format!("round-{round}"));
        let written = at_once(64, |_| {
            let (store, record) = (Arc::clone(&store), Arc::new(record(&owner, time(0))));
            async move { store.insert(record, 25).await.unwrap() }
        })
        .await;
        let done = written.iter().filter(|written| **written == Written::Done(())).count();
        assert_eq!(done, 25);
        assert_eq!(active(&store, &owner, time(0)).await, 25);
    }
}

async fn expired_keys_do_not_count(store: Store) {
    let owner = account("a");
    for _ in 0..3 {
        let mut short = record(&owner, time(0));
        short.expires_at = Some(time(10));
        assert_eq!(store.insert(Arc::new(short), 3).await.unwrap(), Written::Done(()));
    }
    let before = record(&owner, time(10) - Duration::from_millis(1));
    assert_eq!(store.insert(Arc::new(before), 3).await.unwrap(), Written::Refused);
    for _ in 0..3 {
        let then = Arc::new(record(&owner, time(10)));
        assert_eq!(store.insert(then, 3).await.unwrap(), Written::Done(()));
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 6);
}

async fn the_first_key_is_made_once_under_races(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let written = at_once(32, |_| {
            let (store, record) = (Arc::clone(&store), Arc::new(record(&owner, time(0))));
            async move { store.insert_first(record).await.unwrap() }
        })
        .await;
        let done = written.iter().filter(|written| **written == Written::Done(())).count();
        assert_eq!(done, 1);
        assert_eq!(store.list(&owner).await.unwrap().len(), 1);
    }
}

async fn the_first_key_is_not_made_again_after_deletion(store: Store) {
    let owner = account("a");
    let first = Arc::new(record(&owner, time(0)));
    assert_eq!(store.insert_first(Arc::clone(&first)).await.unwrap(), Written::Done(()));
    assert_eq!(store.delete(&owner, &first.id, time(1)).await.unwrap(), Written::Done(()));
    let again = Arc::new(record(&owner, time(2)));
    assert_eq!(store.insert_first(again).await.unwrap(), Written::Refused);
    assert!(store.list(&owner).await.unwrap().is_empty());
}

async fn a_taken_fingerprint_is_said_and_nothing_is_stored(store: Store) {
    let owner = account("a");
    let first = insert(&store, record(&owner, time(0))).await;
    // The same fingerprint, another digest: a collision of 64 bits.
    let mut twin = record(&account("b"), time(0));
    let mut bytes = *first.digest.as_bytes();
    bytes[31] ^= 1;
    twin.digest = tower_api_key::KeyDigest::from_bytes(bytes);
    let twin = Arc::new(twin);
    assert_eq!(store.insert(Arc::clone(&twin), 25).await.unwrap(), Written::Taken);
    assert_eq!(store.insert_first(Arc::clone(&twin)).await.unwrap(), Written::Taken);
    let ours = Arc::new(KeyRecord::new(
        "key_ours".parse().unwrap(),
        owner.clone(),
        twin.name.clone(),
        twin.digest.clone(),
        time(1),
    ));
    for grace_ends in [Some(time(9)), None] {
        let rotated = store.rotate(&owner, &first.id, Arc::clone(&ours), grace_ends, 25).await;
        assert_eq!(rotated.unwrap(), Written::Taken);
    }
    assert_eq!(all(&store.get(&owner, &first.id).await.unwrap().unwrap()), all(&first));
    assert!(store.list(&account("b")).await.unwrap().is_empty());
    // A tombstone keeps its fingerprint, too.
    assert_eq!(store.delete(&owner, &first.id, time(1)).await.unwrap(), Written::Done(()));
    assert_eq!(store.insert(twin, 25).await.unwrap(), Written::Taken);
    assert!(matches!(find(&store, first.fingerprint()).await, Some(Entry::Ended(_))));
}

async fn a_taken_id_is_said_and_nothing_is_stored(store: Store) {
    let owner = account("a");
    let first = insert(&store, record(&owner, time(0))).await;
    let mut twin = record(&owner, time(1));
    twin.id = first.id.clone();
    let twin = Arc::new(twin);
    assert_eq!(store.insert(Arc::clone(&twin), 25).await.unwrap(), Written::Taken);
    assert!(!found_live(&store, &twin).await);
    assert_eq!(store.list(&owner).await.unwrap().len(), 1);
}

async fn renaming_keeps_everything_else(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let Written::Done(renamed) =
        store.rename(&owner, &key.id, "New".parse().unwrap()).await.unwrap()
    else {
        panic!("not renamed");
    };
    let mut expected = (*key).clone();
    expected.name = "New".parse().unwrap();
    assert_eq!(all(&renamed), all(&expected));
    let Some(Entry::Live(found)) = find(&store, key.fingerprint()).await else { panic!("gone") };
    assert_eq!(all(&found), all(&expected));
}

async fn replacing_ends_the_old_secret_and_keeps_everything_else(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let replaced = store.replace(&owner, &key.id, secret("new"), time(5)).await.unwrap();
    let Written::Done(replaced) = replaced else { panic!("not replaced") };
    let mut expected = (*key).clone();
    expected.digest = digest("new");
    expected.hint = "…w".parse().unwrap();
    assert_eq!(all(&replaced), all(&expected));
    let Some(Entry::Ended(tombstone)) = find(&store, key.fingerprint()).await else {
        panic!("the old secret is not ended");
    };
    assert_eq!(tombstone.cause, EndCause::Regenerated);
    assert_eq!((&tombstone.key, tombstone.ended_at), (&key.id, time(5)));
    let Some(Entry::Live(found)) = find(&store, replaced.fingerprint()).await else {
        panic!("the new secret is not there");
    };
    assert_eq!(all(&found), all(&expected));
    assert_eq!(store.list(&owner).await.unwrap().len(), 1);
}

async fn replacing_by_a_taken_secret_changes_nothing(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let mut other = record(&account("b"), time(0));
    other.digest = digest("taken");
    insert(&store, other).await;
    let replaced = store.replace(&owner, &key.id, secret("taken"), time(5)).await.unwrap();
    assert!(matches!(replaced, Written::Taken));
    assert_eq!(all(&store.get(&owner, &key.id).await.unwrap().unwrap()), all(&key));
    assert!(found_live(&store, &key).await);
}

async fn rotating_files_the_successor_and_limits_the_old(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated =
        store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(70)), 25).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    let now_old = store.get(&owner, &old.id).await.unwrap().unwrap();
    assert_eq!(now_old.expires_at, Some(time(70)));
    assert_eq!(now_old.replaced_by.as_ref(), Some(&successor.id));
    let Some(Entry::Live(found)) = find(&store, old.fingerprint()).await else { panic!("gone") };
    assert_eq!(all(&found), all(&now_old));
    assert!(found_live(&store, &successor).await);
}

async fn rotating_never_lengthens_a_life(store: Store) {
    let owner = account("a");
    let mut short = record(&owner, time(0));
    short.expires_at = Some(time(20));
    let short = insert(&store, short).await;
    let successor = Arc::new(record(&owner, time(10)));
    assert_eq!(
        store.rotate(&owner, &short.id, successor, Some(time(70)), 25).await.unwrap(),
        Written::Done(())
    );
    assert_eq!(store.get(&owner, &short.id).await.unwrap().unwrap().expires_at, Some(time(20)));
}

async fn rotating_counts_both_during_a_grace(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated =
        store.rotate(&owner, &old.id, Arc::clone(&successor), Some(time(70)), 2).await.unwrap();
    assert_eq!(rotated, Written::Refused);
    assert_eq!(all(&store.get(&owner, &old.id).await.unwrap().unwrap()), all(&old));
    assert!(!found_live(&store, &successor).await);
    assert_eq!(
        store.rotate(&owner, &old.id, successor, Some(time(70)), 3).await.unwrap(),
        Written::Done(())
    );
}

async fn rotating_without_grace_fits_at_the_cap_and_ends_the_old_for_good(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&successor), None, 1).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    let listed = store.list(&owner).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, successor.id);
    let Some(Entry::Ended(tombstone)) = find(&store, old.fingerprint()).await else {
        panic!("the old secret could work again when the clock is set back");
    };
    assert_eq!((tombstone.cause, tombstone.ended_at), (EndCause::Rotated, time(10)));
}

async fn a_key_is_rotated_once(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let first = Arc::new(record(&owner, time(10)));
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&first), Some(time(70)), 25).await;
    assert_eq!(rotated.unwrap(), Written::Done(()));
    for grace_ends in [Some(time(90)), None] {
        let second = Arc::new(record(&owner, time(11)));
        let rotated = store.rotate(&owner, &old.id, Arc::clone(&second), grace_ends, 25).await;
        assert_eq!(rotated.unwrap(), Written::Superseded);
        assert!(!found_live(&store, &second).await);
    }
    let old = store.get(&owner, &old.id).await.unwrap().unwrap();
    assert_eq!((old.expires_at, old.replaced_by.as_ref()), (Some(time(70)), Some(&first.id)));
}

async fn a_successor_belongs_to_the_same_account_and_has_an_id_of_its_own(store: Store) {
    let owner = account("a");
    let old = insert(&store, record(&owner, time(0))).await;
    let theirs = Arc::new(record(&account("b"), time(1)));
    let mut twin = record(&owner, time(1));
    twin.id = old.id.clone();
    let twin = Arc::new(twin);
    for grace_ends in [Some(time(70)), None] {
        let rotated = store.rotate(&owner, &old.id, Arc::clone(&theirs), grace_ends, 25).await;
        assert_eq!(rotated.unwrap(), Written::NotFound);
    }
    let rotated = store.rotate(&owner, &old.id, Arc::clone(&twin), Some(time(70)), 25).await;
    assert_eq!(rotated.unwrap(), Written::Taken);
    for successor in [theirs, twin] {
        assert!(!found_live(&store, &successor).await);
    }
    assert_eq!(all(&store.get(&owner, &old.id).await.unwrap().unwrap()), all(&old));
}

async fn rotations_and_creations_race_to_the_cap_and_no_further(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let mut old = Vec::new();
        for _ in 0..20 {
            old.push(insert(&store, record(&owner, time(0))).await.id.clone());
        }
        at_once(40, |number| {
            let (store, owner) = (Arc::clone(&store), owner.clone());
            let (id, new) = (old[number / 2].clone(), Arc::new(record(&owner, time(1))));
            async move {
                if number % 2 == 0 {
                    store.insert(new, 25).await.unwrap()
                } else {
                    store.rotate(&owner, &id, new, Some(time(100)), 25).await.unwrap()
                }
            }
        })
        .await;
        assert_eq!(active(&store, &owner, time(1)).await, 25);
    }
}

async fn deleting_leaves_a_tombstone_for_good(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    assert_eq!(store.delete(&owner, &key.id, time(5)).await.unwrap(), Written::Done(()));
    assert_eq!(store.delete(&owner, &key.id, time(6)).await.unwrap(), Written::NotFound);
    assert_eq!(store.delete_all(&owner, time(7)).await.unwrap(), 0);
    let renamed = store.rename(&owner, &key.id, "Risen".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::NotFound));
    let replaced = store.replace(&owner, &key.id, secret("risen"), time(7)).await.unwrap();
    assert!(matches!(replaced, Written::NotFound));
    assert!(store.get(&owner, &key.id).await.unwrap().is_none());
    assert!(store.list(&owner).await.unwrap().is_empty());
    let Some(Entry::Ended(tombstone)) = find(&store, key.fingerprint()).await else {
        panic!("no tombstone");
    };
    assert_eq!(tombstone.fingerprint, key.fingerprint());
    assert_eq!((&tombstone.key, &tombstone.account), (&key.id, &owner));
    assert_eq!((&tombstone.name, tombstone.ended_at), (&key.name, time(5)));
    assert_eq!(tombstone.cause, EndCause::Deleted);
}

async fn of_many_deletions_one_is_done(store: Store) {
    for _ in 0..10 {
        let owner = account("a");
        let id = insert(&store, record(&owner, time(0))).await.id.clone();
        let written = at_once(32, |_| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), id.clone());
            async move { store.delete(&owner, &id, time(1)).await.unwrap() }
        })
        .await;
        let done = written.iter().filter(|written| **written == Written::Done(())).count();
        assert_eq!(done, 1);
    }
}

async fn of_many_rotations_one_is_done(store: Store) {
    for grace_ends in [Some(time(50)), None] {
        let owner = account("a");
        let old = insert(&store, record(&owner, time(0))).await;
        let before = active(&store, &owner, time(1)).await;
        let written = at_once(32, |_| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), old.id.clone());
            let new = Arc::new(record(&owner, time(1)));
            async move { store.rotate(&owner, &id, new, grace_ends, 1000).await.unwrap() }
        })
        .await;
        let done = written.iter().filter(|written| **written == Written::Done(())).count();
        assert_eq!(done, 1);
        let after = active(&store, &owner, time(1)).await;
        assert_eq!(after, before + usize::from(grace_ends.is_some()));
    }
}

async fn deleting_and_replacing_race_to_one_truth(store: Store) {
    for round in 0..30 {
        let owner = account("a");
        let key = insert(&store, record(&owner, time(0))).await;
        let text = format!("replaced-{round}");
        let new = digest(&text);
        let outcomes = at_once(2, |number| {
            let (store, owner, id) = (Arc::clone(&store), owner.clone(), key.id.clone());
            let secret = secret(&text);
            async move {
                if number == 0 {
                    store.delete(&owner, &id, time(1)).await.unwrap() == Written::Done(())
                } else {
                    let replaced = store.replace(&owner, &id, secret, time(1)).await.unwrap();
                    matches!(replaced, Written::Done(_))
                }
            }
        })
        .await;
        // In either order the key ends deleted; if it was replaced first, under both fingerprints.
        assert!(outcomes[0], "the delete is never lost");
        assert!(!found_live(&store, &key).await);
        let new = find(&store, new.fingerprint()).await;
        assert!(!matches!(new, Some(Entry::Live(_))), "deleted, yet its new secret lives");
        assert_eq!(new.is_some(), outcomes[1]);
        assert!(store.get(&owner, &key.id).await.unwrap().is_none());
    }
}

async fn deleting_all_ends_expired_ones_too_and_only_this_account_s(store: Store) {
    let (ours, theirs) = (account("a"), account("b"));
    let live = insert(&store, record(&ours, time(0))).await;
    let mut expired = record(&ours, time(0));
    expired.expires_at = Some(time(1));
    let expired = insert(&store, expired).await;
    let other = insert(&store, record(&theirs, time(0))).await;
    assert_eq!(store.delete_all(&ours, time(5)).await.unwrap(), 2);
    assert!(store.list(&ours).await.unwrap().is_empty());
    for ended in [live, expired] {
        assert!(matches!(find(&store, ended.fingerprint()).await, Some(Entry::Ended(_))));
    }
    assert!(found_live(&store, &other).await);
}

async fn a_delete_is_seen_by_every_lookup_that_starts_after_it(store: Store) {
    for _ in 0..50 {
        let owner = account("a");
        let key = insert(&store, record(&owner, time(0))).await;
        let deleted = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (store, key, deleted) =
                    (Arc::clone(&store), Arc::clone(&key), Arc::clone(&deleted));
                tokio::spawn(async move {
                    loop {
                        let after = deleted.load(std::sync::atomic::Ordering::SeqCst);
                        let live = found_live(&store, &key).await;
                        assert!(!(after && live), "accepted after the delete had returned");
                        if after {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        assert_eq!(store.delete(&owner, &key.id, time(1)).await.unwrap(), Written::Done(()));
        deleted.store(true, std::sync::atomic::Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

async fn odd_texts_come_back_as_they_were(store: Store) {
    let owner = account("O'Brien \"; DROP TABLE secrets; -- % _ \\ 💥 مرحبا");
    for name in [
        "'); DELETE FROM secrets; --",
        "%",
        "_",
        "\\",
        "👩‍👩‍👧‍👦",
        "مفتاح الإنتاج",
        "<script>",
        "é e\u{301}",
    ] {
        let mut odd = record(&owner, time(0));
        odd.name = name.parse().unwrap();
        let odd = insert(&store, odd).await;
        let got = store.get(&owner, &odd.id).await.unwrap().unwrap();
        assert_eq!((got.name.as_str(), &got.account), (name, &owner));
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), 8);
    assert!(store.list(&account("%")).await.unwrap().is_empty());
}

async fn times_come_back_to_the_millisecond(store: Store) {
    let owner = account("a");
    let mut made = record(&owner, time(0) + Duration::from_millis(7));
    made.expires_at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(253_402_300_799_999));
    let made = insert(&store, made).await;
    let got = store.get(&owner, &made.id).await.unwrap().unwrap();
    assert_eq!((got.created_at, got.expires_at), (made.created_at, made.expires_at));
}

async fn a_write_whose_caller_goes_away_is_whole(store: Store) {
    let owner = account("a");
    let mut old = Vec::new();
    for round in 0..50_u32 {
        let key = insert(&store, record(&owner, time(0))).await;
        let successor = Arc::new(record(&owner, time(1)));
        let rotate = store.rotate(&owner, &key.id, successor, Some(time(50)), 1000);
        let mut rotate = std::pin::pin!(rotate);
        // Polled a few times, then dropped.
        for _ in 0..round % 4 {
            let a_moment = Duration::from_micros(u64::from(round) * 3);
            if tokio::time::timeout(a_moment, rotate.as_mut()).await.is_ok() {
                break;
            }
        }
        old.push(key.id.clone());
    }
    // What follows is served, and sees whole rotations only: an old key names a successor exactly if
    // that is there, in the list and in the index.
    insert(&store, record(&owner, time(2))).await;
    let listed = store.list(&owner).await.unwrap();
    for key in &listed {
        assert!(found_live(&store, key).await);
    }
    let named = listed.iter().filter_map(|key| key.replaced_by.as_ref());
    for successor in named.clone() {
        assert!(listed.iter().any(|key| key.id == *successor), "a successor that is not there");
    }
    assert_eq!(listed.len(), old.len() + 1 + named.count(), "no successor without its old key");
}
