//! Promises about new names and new secrets.

use std::sync::Arc;

use super::given::{
    Store, account, assert_done, assert_same, assert_shown, at_once, colliding, ended, find,
    insert, is_live, record, said, secret, shown, time, while_watched,
};
use crate::record::{EndCause, Hint, KeyRecord};
use crate::store::{Entry, NewSecret, Written};

/// A key with everything that a key can have.
fn full(owner: &str) -> KeyRecord {
    KeyRecord {
        environment: Some("live".parse().unwrap()),
        scopes: "a:read b:write".parse().unwrap(),
        sources: "192.0.2.1 2001:db8::/32".parse().unwrap(),
        hint: "acme_live_…abcd".parse().unwrap(),
        expires_at: Some(time(100)),
        ..record(&account(owner), time(0))
    }
}

/// A rename changes the name and nothing else, and gives the record as it then is.
pub async fn renaming_keeps_everything_else(store: Store) {
    let key = insert(&store, full("a")).await;
    let other = insert(&store, record(&key.account, time(0))).await;
    let renamed = store.rename(&key.account, &key.id, "New".parse().unwrap()).await.unwrap();
    let Written::Done(renamed) = renamed else { panic!("rename said {renamed:?}") };
    let expected = KeyRecord { name: "New".parse().unwrap(), ..(*key).clone() };
    assert_same(&renamed, &expected, "what rename gives and what was expected");
    assert_shown(&store, &expected).await;
    assert_shown(&store, &other).await;
}

/// A new secret works at once, the old one is a tombstone at once, and nothing else changes.
pub async fn replacing_ends_the_old_secret_and_keeps_everything_else(store: Store) {
    let key = insert(&store, full("a")).await;
    let other = insert(&store, record(&key.account, time(0))).await;
    let NewSecret { digest, hint } = secret();
    let new = NewSecret::new(digest.clone(), hint.clone());
    let replaced = store.replace(&key.account, &key.id, new, time(5)).await.unwrap();
    let Written::Done(replaced) = replaced else { panic!("replace said {replaced:?}") };
    let expected = KeyRecord { hint, digest, ..(*key).clone() };
    assert_same(&replaced, &expected, "what replace gives and what was expected");
    assert_shown(&store, &expected).await;
    let tombstone = ended(&store, key.fingerprint()).await;
    let right = key.tombstone(EndCause::Regenerated, time(5));
    assert_eq!(format!("{tombstone:?}"), format!("{right:?}"));
    assert_eq!(store.list(&key.account).await.unwrap().len(), 2);
    assert_shown(&store, &other).await;
}

/// A secret that is in use or ever was, anybody's or the key's own, replaces nothing.
pub async fn replacing_by_a_taken_secret_changes_nothing(store: Store) {
    let key = insert(&store, full("a")).await;
    let before = secret();
    let replaced = store.replace(&key.account, &key.id, before.clone(), time(1)).await.unwrap();
    let Written::Done(now) = replaced else { panic!("replace said {replaced:?}") };
    let theirs = insert(&store, record(&account("b"), time(0))).await;
    let gone = insert(&store, record(&account("b"), time(0))).await;
    assert_done(store.delete(&gone.account, &gone.id, time(1)).await, "delete");
    for (whose, digest) in [
        ("its own", &now.digest),
        ("its own former", &key.digest),
        ("another account's", &theirs.digest),
        ("a deleted", &gone.digest),
    ] {
        let taken = NewSecret::new(colliding(digest, 0), Hint::default());
        let replaced = store.replace(&key.account, &key.id, taken, time(5)).await;
        assert_eq!(said(replaced), Written::Taken, "{whose} fingerprint");
    }
    assert_shown(&store, &now).await;
    assert_shown(&store, &theirs).await;
    assert_eq!(ended(&store, key.fingerprint()).await.ended_at, time(1));
    assert_eq!(ended(&store, gone.fingerprint()).await.ended_at, time(1));
}

/// Of any number of secrets that replace each other at once, one lives, and all others, with the
/// first, are tombstones.
pub async fn of_many_new_secrets_one_lives(store: Store) {
    for round in 0..10 {
        let owner = account(&format!("round-{round}"));
        let key = insert(&store, record(&owner, time(0))).await;
        let mut secrets = at_once(16, |_| {
            let (store, owner, id, new) =
                (Arc::clone(&store), owner.clone(), key.id.clone(), secret());
            async move {
                let replaced = store.replace(&owner, &id, new.clone(), time(1)).await;
                assert_eq!(said(replaced), Written::Done(()), "a new secret for a live key");
                new.digest.fingerprint()
            }
        })
        .await;
        secrets.push(key.fingerprint());
        let now = shown(&store, &key).await.fingerprint();
        for secret in secrets {
            match find(&store, secret).await {
                Some(Entry::Live(_)) => assert_eq!(secret, now, "two secrets of one key live"),
                Some(Entry::Ended(tombstone)) => {
                    assert_eq!(tombstone.cause, EndCause::Regenerated);
                }
                None => panic!("a replaced secret has left no tombstone"),
            }
        }
        assert_eq!(store.list(&owner).await.unwrap().len(), 1);
    }
}

/// Whoever finds a new secret, also while the call that makes it is under way, finds the old one
/// ended; and the key is in the list at every moment, once. For a store by itself: a cache may give
/// the old one until the call returns.
pub async fn old_and_new_secrets_never_both_live(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let secrets: Vec<_> = (0..24).map(|_| secret()).collect();
    let mut chain = vec![key.fingerprint()];
    chain.extend(secrets.iter().map(|secret| secret.digest.fingerprint()));
    let look = {
        let (store, owner) = (Arc::clone(&store), key.account.clone());
        move |(), _| {
            let (store, owner, chain) = (Arc::clone(&store), owner.clone(), chain.clone());
            async move {
                for pair in chain.windows(2) {
                    if find(&store, pair[1]).await.is_some() {
                        let both = is_live(&store, pair[0]).await;
                        assert!(!both, "the new secret is there and the old one still works");
                    }
                }
                let listed = store.list(&owner).await.unwrap().len();
                assert_eq!(listed, 1, "keys in the list while a secret is replaced");
            }
        }
    };
    let replacing = async {
        for new in &secrets {
            let replaced = store.replace(&key.account, &key.id, new.clone(), time(1)).await;
            assert_done(replaced, "replace");
        }
    };
    while_watched(vec![(); 2], look, replacing).await;
}
