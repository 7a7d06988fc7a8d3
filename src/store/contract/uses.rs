//! Promises about notes of when secrets were last used.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::given::{
    Store, account, assert_done, assert_nowhere, assert_shown, at_once, ended, insert, record,
    said, secret, shown, time,
};
use crate::digest::AgentHash;
use crate::record::KeyRecord;
use crate::store::{Use, Written};

async fn mark(store: &Store, key: &KeyRecord, at: SystemTime) {
    store.mark_used(&[Use::new(key.fingerprint(), at)]).await.unwrap();
}

/// A use is shown by list and get, to the millisecond, and changes nothing else; what else
/// changes keeps it.
pub async fn a_use_is_shown_to_the_millisecond(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let mut expired = record(&owner, time(0));
    expired.expires_at = Some(time(1));
    let expired = insert(&store, expired).await;
    let at = time(7) + Duration::from_millis(1);
    for key in [&key, &expired] {
        mark(&store, key, at).await;
        let expected = KeyRecord { last_used_at: Some(at), ..(**key).clone() };
        assert_shown(&store, &expected).await;
    }
    let renamed = store.rename(&owner, &key.id, "Renamed".parse().unwrap()).await;
    assert_done(renamed, "rename");
    assert_eq!(shown(&store, &key).await.last_used_at, Some(at), "after a rename");
    let replaced = store.replace(&owner, &key.id, secret(), time(8)).await;
    assert_done(replaced, "replace");
    assert_eq!(shown(&store, &key).await.last_used_at, Some(at), "after a new secret");
    let successor = Arc::new(record(&owner, time(9)));
    let rotated = store.rotate(&owner, &key.id, Arc::clone(&successor), Some(time(90)), 25).await;
    assert_done(rotated, "rotate");
    assert_eq!(shown(&store, &key).await.last_used_at, Some(at), "after a rotation");
    assert_shown(&store, &successor).await;
}

/// The last use is shown whole: when, from where and by what are of one use, the newest that had an
/// accepted request, and whatever that did not say is not shown. What else changes keeps it; a
/// successor has none of it.
pub async fn the_last_use_is_shown_whole(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let agent =
        |number: u8| Some(AgentHash::from_bytes([number, 0, 0x80, 0xff, b'\n', 0, 1, number]));
    let from = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let mut last = Use::new(key.fingerprint(), time(1));
    for (at, address, agent) in [
        (1, from("192.0.2.1"), agent(1)),
        (2, None, None),
        (3, from("2001:db8::ffff:1"), None),
        (4, None, agent(0)),
        (5, from("0.0.0.0"), agent(0xff)),
        (6, from("::ffff:192.0.2.1"), agent(2)),
        (7, from("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), agent(3)),
        (8, from("::"), agent(4)),
    ] {
        last = Use { at: time(at), address, agent, ..Use::new(key.fingerprint(), time(at)) };
        // Neither what is older nor what is as old is shown in part.
        let older = Use { at: time(at - 1), address: from("192.0.2.7"), agent: None, ..last };
        let other = Use { address: from("192.0.2.8"), agent: None, ..last };
        store.mark_used(&[older, last, other, older]).await.unwrap();
        store.mark_used(&[other]).await.unwrap();
        store.mark_used(&[older]).await.unwrap();
        assert_shown(&store, &with_last_use((*key).clone(), &last)).await;
    }
    let renamed = store.rename(&owner, &key.id, "Renamed".parse().unwrap()).await.unwrap();
    let Written::Done(renamed) = renamed else { panic!("rename said {renamed:?}") };
    assert_shown(&store, &with_last_use((*renamed).clone(), &last)).await;
    let replaced = store.replace(&owner, &key.id, secret(), time(8)).await.unwrap();
    let Written::Done(replaced) = replaced else { panic!("replace said {replaced:?}") };
    assert_shown(&store, &with_last_use((*replaced).clone(), &last)).await;
    let successor = Arc::new(record(&owner, time(9)));
    let rotated = store.rotate(&owner, &key.id, Arc::clone(&successor), Some(time(90)), 25).await;
    assert_done(rotated, "rotate");
    let superseded = replaced.superseded(successor.id.clone(), successor.created_at, time(90));
    assert_shown(&store, &with_last_use(superseded, &last)).await;
    assert_shown(&store, &successor).await;
    // A record that is filed with a last use has it.
    let used = insert(&store, with_last_use(record(&owner, time(9)), &last)).await;
    assert_shown(&store, &used).await;
}

fn with_last_use(record: KeyRecord, last: &Use) -> KeyRecord {
    KeyRecord {
        last_used_at: Some(last.at),
        last_used_from: last.address,
        last_used_agent: last.agent,
        ..record
    }
}

/// A use of which no request was accepted is not shown as the last, also where there was none before
/// it, and where it says from where it came.
pub async fn a_use_without_requests_shows_nothing(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let refused = |at| Use {
        requests: 0,
        refusals: 3,
        address: Some([192, 0, 2, 1].into()),
        agent: Some(AgentHash::of(b"curl")),
        ..Use::new(key.fingerprint(), time(at))
    };
    store.mark_used(&[refused(5)]).await.unwrap();
    assert_shown(&store, &key).await;
    store.mark_used(&[refused(8), Use::new(key.fingerprint(), time(7)), refused(9)]).await.unwrap();
    let shown = KeyRecord { last_used_at: Some(time(7)), ..(*key).clone() };
    assert_shown(&store, &shown).await;
    store.mark_used(&[Use { refusals: 0, ..refused(9) }]).await.unwrap();
    assert_shown(&store, &shown).await;
}

/// A use that is older than the one noted is passed over, by a millisecond too, in one call and in
/// several.
pub async fn uses_go_only_forward(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let other = insert(&store, record(&account("a"), time(0))).await;
    let a_little = Duration::from_millis(1);
    for (at, expected) in [
        (time(7), time(7)),
        (time(6), time(7)),
        (time(7) - a_little, time(7)),
        (time(7) + a_little, time(7) + a_little),
        (time(7), time(7) + a_little),
    ] {
        mark(&store, &key, at).await;
        assert_eq!(shown(&store, &key).await.last_used_at, Some(expected));
    }
    assert_shown(&store, &other).await;
    let uses = [3, 9, 8, 1].map(|seconds| Use::new(other.fingerprint(), time(seconds)));
    store.mark_used(&uses).await.unwrap();
    assert_eq!(shown(&store, &other).await.last_used_at, Some(time(9)), "of several in one call");
    let noted = at_once(8, |number| {
        let (store, key) = (Arc::clone(&store), Arc::clone(&key));
        async move { mark(&store, &key, time(100 + number as u64)).await }
    });
    noted.await;
    assert_eq!(shown(&store, &key).await.last_used_at, Some(time(107)), "of several at once");
}

/// Any number of uses is noted in one call, none included, whatever else is among them.
pub async fn many_uses_are_noted_in_one_call(store: Store) {
    store.mark_used(&[]).await.unwrap();
    let owner = account("a");
    let mut keys = Vec::new();
    for number in 0..20 {
        keys.push(insert(&store, record(&owner, time(number))).await);
    }
    let gone = insert(&store, record(&owner, time(0))).await;
    assert_done(store.delete(&owner, &gone.id, time(1)).await, "delete");
    let mut uses = vec![Use::new(gone.fingerprint(), time(50))];
    for (number, key) in keys.iter().enumerate() {
        uses.push(Use::new(key.fingerprint(), time(50 + number as u64)));
        uses.extend((0..50).map(|_| Use::new(record(&owner, time(0)).fingerprint(), time(50))));
    }
    store.mark_used(&uses).await.unwrap();
    for (number, key) in keys.iter().enumerate() {
        let noted = shown(&store, key).await.last_used_at;
        assert_eq!(noted, Some(time(50 + number as u64)), "key {number} of a call of 1021 uses");
    }
    assert_eq!(store.list(&owner).await.unwrap().len(), keys.len());
}

/// A use of a secret that is unknown or was ended files nothing and changes nothing.
pub async fn a_use_of_what_is_not_live_is_passed_over(store: Store) {
    let owner = account("a");
    let never = record(&owner, time(0));
    mark(&store, &never, time(5)).await;
    assert_nowhere(&store, &never).await;
    assert!(store.list(&owner).await.unwrap().is_empty());

    let key = insert(&store, record(&owner, time(0))).await;
    let replaced = store.replace(&owner, &key.id, secret(), time(1)).await.unwrap();
    let Written::Done(now) = replaced else { panic!("replace said {replaced:?}") };
    let before = format!("{:?}", ended(&store, key.fingerprint()).await);
    mark(&store, &key, time(5)).await;
    assert_shown(&store, &now).await;
    assert_eq!(format!("{:?}", ended(&store, key.fingerprint()).await), before);

    assert_done(store.delete(&owner, &key.id, time(2)).await, "delete");
    let before = format!("{:?}", ended(&store, now.fingerprint()).await);
    mark(&store, &now, time(5)).await;
    assert_eq!(format!("{:?}", ended(&store, now.fingerprint()).await), before);
    assert!(store.list(&owner).await.unwrap().is_empty(), "a use has brought a key back");
    let renamed = store.rename(&owner, &key.id, "Risen".parse().unwrap()).await;
    assert_eq!(said(renamed), Written::NotFound, "a use has brought a key back");
}

/// A use that is noted while its key is deleted never brings the key back.
pub async fn a_late_use_never_revives_a_key(store: Store) {
    for round in 0..25 {
        let owner = account(&format!("round-{round}"));
        let key = insert(&store, record(&owner, time(0))).await;
        at_once(4, |number| {
            let (store, key) = (Arc::clone(&store), Arc::clone(&key));
            async move {
                if number == 1 {
                    let deleted = store.delete(&key.account, &key.id, time(1)).await;
                    assert_done(deleted, "delete");
                } else {
                    mark(&store, &key, time(2 + number as u64)).await;
                }
            }
        })
        .await;
        ended(&store, key.fingerprint()).await;
        assert_nowhere_but_ended(&store, &key).await;
    }
}

async fn assert_nowhere_but_ended(store: &Store, key: &KeyRecord) {
    assert!(store.get(&key.account, &key.id).await.unwrap().is_none(), "get gives a deleted key");
    assert!(store.list(&key.account).await.unwrap().is_empty(), "list gives a deleted key");
}
