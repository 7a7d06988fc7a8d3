//! Promises about other digests of the same text.

use std::sync::Arc;

use super::given::{
    Store, account, assert_done, assert_same, assert_shown, at_once, colliding, done, ended, find,
    insert, is_live, record, said, secret, shown, time,
};
use crate::digest::KeyDigest;
use crate::record::{EndCause, KeyRecord};
use crate::store::{Day, NewSecret, Use, Written};

/// A key with everything that a key can have.
fn full(owner: &str) -> KeyRecord {
    KeyRecord {
        environment: Some("live".parse().unwrap()),
        scopes: "a:read b:write".parse().unwrap(),
        sources: "192.0.2.1 2001:db8::/32".parse().unwrap(),
        hint: "acme_live_…abcd".parse().unwrap(),
        expires_at: Some(time(100)),
        replaced_by: Some("key_other".parse().unwrap()),
        last_used_at: Some(time(2)),
        ..record(&account(owner), time(0))
    }
}

fn digest() -> KeyDigest {
    secret().digest
}

/// The new digest is found at once, the old one is a tombstone at once, and nothing else changes.
pub async fn rehashing_ends_the_old_digest_and_keeps_everything_else(store: Store) {
    let key = insert(&store, full("a")).await;
    let other = insert(&store, record(&key.account, time(0))).await;
    let (old, new) = (key.fingerprint(), digest());
    let rehashed = store.rehash(&key.account, &key.id, old, new.clone(), time(5)).await.unwrap();
    let Written::Done(rehashed) = rehashed else { panic!("rehash said {rehashed:?}") };
    let expected = KeyRecord { digest: new, ..(*key).clone() };
    assert_same(&rehashed, &expected, "what rehash gives and what was expected");
    assert_shown(&store, &expected).await;
    let right = key.tombstone(EndCause::Rehashed, time(5));
    assert_eq!(format!("{:?}", ended(&store, old).await), format!("{right:?}"));
    assert_eq!(store.list(&key.account).await.unwrap().len(), 2);
    assert_shown(&store, &other).await;

    let deleted = store.delete(&key.account, &key.id, time(6)).await;
    assert_done(deleted, "delete");
    assert_eq!(ended(&store, expected.fingerprint()).await.cause, EndCause::Deleted);
    assert_eq!(ended(&store, old).await.cause, EndCause::Rehashed, "an end is final");
}

/// Where the key has another secret by then, because it was regenerated or rehashed, nothing is done:
/// the old text must not work again.
pub async fn rehashing_never_undoes_a_new_secret(store: Store) {
    // What was rotated gets no new secret.
    let key = insert(&store, KeyRecord { replaced_by: None, ..full("a") }).await;
    let old = key.fingerprint();
    let replaced = store.replace(&key.account, &key.id, secret(), time(1)).await.unwrap();
    let Written::Done(now) = replaced else { panic!("replace said {replaced:?}") };
    let late = digest();
    let rehashed = store.rehash(&key.account, &key.id, old, late.clone(), time(2)).await;
    assert_eq!(said(rehashed), Written::NotFound, "the old secret was regenerated");
    assert!(find(&store, late.fingerprint()).await.is_none(), "the old text works again");
    assert_shown(&store, &now).await;

    let (before, first, second) = (now.fingerprint(), digest(), digest());
    let rehash = |digest| store.rehash(&key.account, &key.id, before, digest, time(3));
    assert_done(rehash(first.clone()).await, "rehash");
    assert_eq!(said(rehash(second.clone()).await), Written::NotFound, "it was rehashed before");
    assert!(find(&store, second.fingerprint()).await.is_none());
    assert_shown(&store, &KeyRecord { digest: first, ..(*now).clone() }).await;
}

/// A digest that is in use or ever was, anybody's or the key's own, takes nothing's place.
pub async fn rehashing_by_a_taken_digest_changes_nothing(store: Store) {
    let key = insert(&store, full("a")).await;
    let (before, now) = (key.fingerprint(), digest());
    let first = store.rehash(&key.account, &key.id, before, now.clone(), time(1)).await;
    assert_done(first, "rehash");
    let theirs = insert(&store, record(&account("b"), time(0))).await;
    let gone = insert(&store, record(&account("b"), time(0))).await;
    assert_done(store.delete(&gone.account, &gone.id, time(1)).await, "delete");
    for (whose, digest) in [
        ("its own", &now),
        ("its own former", &key.digest),
        ("another account's", &theirs.digest),
        ("a deleted", &gone.digest),
    ] {
        let (old, taken) = (now.fingerprint(), colliding(digest, 0));
        let rehashed = store.rehash(&key.account, &key.id, old, taken, time(5)).await;
        assert_eq!(said(rehashed), Written::Taken, "{whose} fingerprint");
    }
    assert_shown(&store, &KeyRecord { digest: now, ..(*key).clone() }).await;
    assert_shown(&store, &theirs).await;
    assert_eq!(ended(&store, before).await.ended_at, time(1));
    assert_eq!(ended(&store, gone.fingerprint()).await.ended_at, time(1));
}

/// Of any number of requests that rehash one key at once, one does, and its digest alone is live.
pub async fn of_many_rehashings_one_is_done(store: Store) {
    for round in 0..10 {
        let key = insert(&store, record(&account(&format!("round-{round}")), time(0))).await;
        // Half of them by one digest, as of one text, and half by their own.
        let same = digest();
        let all = at_once(16, |number| {
            let (store, key) = (Arc::clone(&store), Arc::clone(&key));
            let new = if number % 2 == 0 { same.clone() } else { digest() };
            async move {
                let (owner, id, old) = (&key.account, &key.id, key.fingerprint());
                let rehashed = store.rehash(owner, id, old, new.clone(), time(1)).await;
                (said(rehashed), new.fingerprint())
            }
        })
        .await;
        let outcomes: Vec<_> = all.iter().map(|(said, _)| *said).collect();
        assert_eq!(done(&outcomes), 1, "requests that rehashed one key: {outcomes:?}");
        let winner = all.iter().find(|(said, _)| *said == Written::Done(())).map(|(_, it)| *it);
        assert_eq!(Some(shown(&store, &key).await.fingerprint()), winner);
        for (_, print) in all {
            assert_eq!(is_live(&store, print).await, Some(print) == winner, "what lost is live");
        }
        assert_eq!(ended(&store, key.fingerprint()).await.cause, EndCause::Rehashed);
    }
}

/// A key that is regenerated while it is rehashed has the new secret, and no other one works.
pub async fn rehashing_and_replacing_race_to_one_truth(store: Store) {
    for round in 0..20 {
        let key = insert(&store, record(&account(&format!("round-{round}")), time(0))).await;
        let (again, new) = (digest(), secret());
        let both = at_once(2, |number| {
            let (store, key) = (Arc::clone(&store), Arc::clone(&key));
            let (again, new) = (again.clone(), new.clone());
            async move {
                let (owner, id, old) = (&key.account, &key.id, key.fingerprint());
                if number == 0 {
                    said(store.rehash(owner, id, old, again, time(1)).await)
                } else {
                    said(store.replace(owner, id, new, time(1)).await)
                }
            }
        })
        .await;
        assert_eq!(both[1], Written::Done(()), "a live key is regenerated");
        let now = shown(&store, &key).await;
        assert_eq!(now.fingerprint(), new.digest.fingerprint(), "a new secret was undone");
        assert!(!is_live(&store, key.fingerprint()).await, "the old secret works");
        let is_done = both[0] == Written::Done(());
        assert!(!is_live(&store, again.fingerprint()).await, "the old text works again");
        assert_eq!(find(&store, again.fingerprint()).await.is_some(), is_done);
    }
}

/// A key that is deleted while it is rehashed is deleted, under both digests.
pub async fn rehashing_and_deleting_race_to_one_truth(store: Store) {
    for round in 0..20 {
        let key = insert(&store, record(&account(&format!("round-{round}")), time(0))).await;
        let again = digest();
        let both = at_once(2, |number| {
            let (store, key, again) = (Arc::clone(&store), Arc::clone(&key), again.clone());
            async move {
                let (owner, id, old) = (&key.account, &key.id, key.fingerprint());
                if number == 0 {
                    said(store.rehash(owner, id, old, again, time(1)).await)
                } else {
                    said(store.delete(owner, id, time(1)).await)
                }
            }
        })
        .await;
        assert_eq!(both[1], Written::Done(()), "a live key is deleted");
        assert!(store.list(&key.account).await.unwrap().is_empty(), "a deleted key is listed");
        assert!(!is_live(&store, key.fingerprint()).await, "a deleted key works");
        assert!(!is_live(&store, again.fingerprint()).await, "a deleted key works again");
    }
}

/// A use that was of the old digest, and is noted after its end, is counted as the key's and shown.
pub async fn a_use_of_a_rehashed_secret_is_shown_and_counted(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let (owner, old, new) = (&key.account, key.fingerprint(), secret());
    store.mark_used(&[Use::new(old, time(1))]).await.unwrap();
    // By a clock that is fast: the key's end, below, is the end that counts all the same.
    assert_done(store.rehash(owner, &key.id, old, digest(), time(9)).await, "rehash");
    assert_eq!(shown(&store, &key).await.last_used_at, Some(time(1)), "the last use before it");
    store.mark_used(&[Use::new(old, time(3))]).await.unwrap();
    assert_eq!(shown(&store, &key).await.last_used_at, Some(time(3)), "the last use after it");
    store.mark_used(&[Use::new(old, time(2))]).await.unwrap();
    assert_eq!(shown(&store, &key).await.last_used_at, Some(time(3)), "uses go only forward");
    assert!(!is_live(&store, old).await, "a late use revived the old digest");

    let requests = async || {
        let usage = store.usage(owner, Day::of(time(0))).await.unwrap();
        assert_eq!(usage.len(), 1, "one key has counts");
        assert_eq!(usage[0].key, key.id);
        (usage[0].name.clone(), usage[0].days.iter().map(|day| day.requests).sum::<u64>())
    };
    assert_eq!(requests().await, (key.name.clone(), 3));
    let NewSecret { digest: again, hint } = new;
    let replaced = store.replace(owner, &key.id, NewSecret::new(again, hint), time(4)).await;
    assert_done(replaced, "replace");
    let renamed = store.rename(owner, &key.id, "Renamed".parse().unwrap()).await;
    assert_done(renamed, "rename");
    assert_done(store.delete(owner, &key.id, time(5)).await, "delete");
    store.mark_used(&[Use::new(old, time(6))]).await.unwrap();
    assert_eq!(requests().await, ("Renamed".parse().unwrap(), 4));
    assert!(store.list(owner).await.unwrap().is_empty(), "a late use brought a key back");
}
