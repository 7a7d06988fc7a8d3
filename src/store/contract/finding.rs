//! Promises about what is found, listed and got.

use std::sync::Arc;

use super::given::{
    NO_CAP, Store, account, assert_done, assert_nowhere, assert_shown, ended, find, insert,
    is_live, live, record, said, secret, shown, time, while_watched,
};
use crate::record::{AccountId, KeyId, KeyRecord};
use crate::store::Written;

/// A record that was inserted is found, listed and got, with everything that it had.
pub async fn what_was_inserted_is_found_listed_and_got(store: Store) {
    let bare = insert(&store, record(&account("a"), time(0))).await;
    let mut full = record(&account("b"), time(1));
    full.environment = Some("live".parse().unwrap());
    full.scopes = "a:read b:write".parse().unwrap();
    full.sources = "192.0.2.1 2001:db8::/32".parse().unwrap();
    full.hint = "acme_live_…abcd".parse().unwrap();
    full.expires_at = Some(time(100));
    full.replaced_by = Some(bare.id.clone());
    full.replaced_at = Some(time(7));
    full.last_used_at = Some(time(50));
    let full = insert(&store, full).await;
    for made in [bare, full] {
        assert_shown(&store, &made).await;
    }
}

/// An empty store has nothing to find, and a write to a key that is not there says so.
pub async fn nothing_is_found_where_nothing_is(store: Store) {
    let owner = account("a");
    let nothing = record(&owner, time(0));
    assert_nowhere(&store, &nothing).await;
    assert!(store.list(&owner).await.unwrap().is_empty(), "an account without keys has a list");
    assert_nothing_to_write_to(&store, &owner, &nothing).await;
    assert_eq!(store.delete_all(&owner, time(0)).await.unwrap(), 0, "delete_all of nothing");
    assert_nowhere(&store, &nothing).await;
}

/// Every call that names this key says that the account has no such key, and leaves nothing.
async fn assert_nothing_to_write_to(store: &Store, owner: &AccountId, key: &KeyRecord) {
    assert!(store.get(owner, &key.id).await.unwrap().is_none(), "get");
    let renamed = store.rename(owner, &key.id, "Stolen".parse().unwrap()).await;
    assert_eq!(said(renamed), Written::NotFound, "rename");
    let new = secret();
    let replaced = store.replace(owner, &key.id, new.clone(), time(1)).await;
    assert_eq!(said(replaced), Written::NotFound, "replace");
    assert!(find(store, new.digest.fingerprint()).await.is_none(), "replace filed its secret");
    let new = secret().digest;
    let rehashed = store.rehash(owner, &key.id, key.fingerprint(), new.clone(), time(1)).await;
    assert_eq!(said(rehashed), Written::NotFound, "rehash");
    assert!(find(store, new.fingerprint()).await.is_none(), "rehash filed its digest");
    for grace_ends in [Some(time(9)), None] {
        let successor = Arc::new(record(owner, time(1)));
        let rotated = store.rotate(owner, &key.id, Arc::clone(&successor), grace_ends, NO_CAP);
        assert_eq!(said(rotated.await), Written::NotFound, "rotate, {grace_ends:?}");
        assert_nowhere(store, &successor).await;
    }
    assert_eq!(said(store.delete(owner, &key.id, time(1)).await), Written::NotFound, "delete");
}

/// The list is in order of `created_at`, and of `id` where that is the same, expired keys included.
pub async fn the_list_is_in_order_of_age(store: Store) {
    let owner = account("a");
    let mut expected = Vec::new();
    for seconds in [3, 1, 2, 1, 0] {
        let mut made = record(&owner, time(seconds));
        made.expires_at = (seconds == 2).then(|| time(2));
        let made = insert(&store, made).await;
        expected.push((made.created_at, made.id.clone()));
    }
    // Younger than another of its age, with the smaller id.
    let mut made = record(&owner, time(3));
    made.id = "A".parse().unwrap();
    let made = insert(&store, made).await;
    expected.push((made.created_at, made.id.clone()));
    expected.sort();
    let listed = store.list(&owner).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|key| (key.created_at, key.id.clone())).collect();
    assert_eq!(listed, expected);
}

/// No method that is given another account finds, changes or ends the key, or says that it is there.
pub async fn another_account_s_key_is_not_found(store: Store) {
    let (ours, theirs) = (account("a"), account("b"));
    let key = insert(&store, record(&ours, time(0))).await;
    assert!(store.list(&theirs).await.unwrap().is_empty(), "list gives another account's key");
    assert_nothing_to_write_to(&store, &theirs, &key).await;
    assert_eq!(store.delete_all(&theirs, time(1)).await.unwrap(), 0, "delete_all");
    assert_shown(&store, &key).await;

    let first = store.insert_first(Arc::new(record(&theirs, time(0)))).await;
    assert_eq!(said(first), Written::Done(()), "another account's key is not one of this account");
    assert_nothing_to_write_to(&store, &theirs, &key).await;
    assert_eq!(store.delete_all(&theirs, time(1)).await.unwrap(), 1, "delete_all");
    assert_shown(&store, &key).await;
}

/// A lookup sees every write that had returned when it started.
pub async fn every_write_that_returned_is_seen(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let key = Arc::new(record(&owner, time(0)));
        // Asked before there was anything: an answer that is remembered must not outlive the write.
        assert_nowhere(&store, &key).await;
        assert_done(store.insert_first(Arc::clone(&key)).await, "insert_first");
        assert_shown(&store, &key).await;

        let renamed = store.rename(&owner, &key.id, "Renamed".parse().unwrap()).await;
        assert_done(renamed, "rename");
        let found = live(&store, key.fingerprint()).await;
        assert_eq!(found.name.as_str(), "Renamed", "find gives the name before a rename");
        assert_eq!(shown(&store, &key).await.name.as_str(), "Renamed");

        let again = secret().digest;
        assert!(find(&store, again.fingerprint()).await.is_none());
        let old = key.fingerprint();
        assert_done(store.rehash(&owner, &key.id, old, again.clone(), time(1)).await, "rehash");
        ended(&store, old).await;
        live(&store, again.fingerprint()).await;

        let new = secret();
        assert!(find(&store, new.digest.fingerprint()).await.is_none());
        let replaced = store.replace(&owner, &key.id, new.clone(), time(1)).await;
        assert_done(replaced, "replace");
        ended(&store, again.fingerprint()).await;
        live(&store, new.digest.fingerprint()).await;

        let successor = Arc::new(record(&owner, time(2)));
        assert_nowhere(&store, &successor).await;
        let rotated = store.rotate(&owner, &key.id, Arc::clone(&successor), Some(time(9)), 25);
        assert_done(rotated.await, "rotate");
        assert_shown(&store, &successor).await;
        let old = live(&store, new.digest.fingerprint()).await;
        assert_eq!(old.expires_at, Some(time(9)), "find gives the expiry before a rotation");

        assert_done(store.delete(&owner, &successor.id, time(3)).await, "delete");
        ended(&store, successor.fingerprint()).await;
        assert_eq!(store.delete_all(&owner, time(4)).await.unwrap(), 1);
        ended(&store, new.digest.fingerprint()).await;
    }
}

/// While keys are made, whoever sees one in the list finds and gets it, and whoever finds one gets
/// it and sees it in the list.
pub async fn a_new_key_is_never_seen_half_made(store: Store) {
    let owner = account("a");
    let made: Vec<_> = (0..32).map(|number| Arc::new(record(&owner, time(number)))).collect();
    let look = {
        let (store, owner, made) = (Arc::clone(&store), owner.clone(), made.clone());
        move |(), _| {
            let (store, owner, made) = (Arc::clone(&store), owner.clone(), made.clone());
            async move {
                for key in store.list(&owner).await.unwrap() {
                    assert!(is_live(&store, key.fingerprint()).await, "listed, but not found");
                    let got = store.get(&owner, &key.id).await.unwrap();
                    assert!(got.is_some(), "listed, but not got");
                }
                let mut found = Vec::new();
                for key in &made {
                    if is_live(&store, key.fingerprint()).await {
                        let got = store.get(&owner, &key.id).await.unwrap();
                        assert!(got.is_some(), "found, but not got");
                        found.push(&key.id);
                    }
                }
                let listed = store.list(&owner).await.unwrap();
                let is_listed = |id: &KeyId| listed.iter().any(|key| key.id == *id);
                assert!(found.into_iter().all(is_listed), "found, but not listed");
            }
        }
    };
    let making = async {
        for key in &made {
            let inserted = store.insert(Arc::clone(key), NO_CAP).await;
            assert_done(inserted, "insert");
        }
    };
    while_watched(vec![(); 3], look, making).await;
}
