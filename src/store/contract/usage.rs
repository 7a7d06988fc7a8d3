//! Promises about how much keys were used.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::given::{
    Store, account, assert_done, assert_nowhere, at_once, find, insert, record, said, secret, time,
};
use crate::record::{AccountId, KeyRecord};
use crate::store::{Day, DayOfUse, KeyUsage, MOST_COUNTED, USAGE_KEPT, Use, Written};

/// Some day after which there is room for others.
fn someday() -> Day {
    Day::of(time(0))
}

fn on(day: Day) -> SystemTime {
    day.start() + Duration::from_hours(7)
}

fn day_after(day: Day, days: u32) -> Day {
    Day::from_number(day.number() + days)
}

fn used(key: &KeyRecord, at: SystemTime, requests: u64, refusals: u64) -> Use {
    Use { requests, refusals, ..Use::new(key.fingerprint(), at) }
}

async fn note(store: &Store, uses: &[Use]) {
    store.mark_used(uses).await.unwrap();
}

async fn usage(store: &Store, owner: &AccountId) -> Vec<KeyUsage> {
    store.usage(owner, Day::from_number(0)).await.unwrap()
}

/// What is counted of a key: days, requests and refusals.
async fn counted(store: &Store, key: &KeyRecord) -> Vec<(Day, u64, u64)> {
    let usage = usage(store, &key.account).await;
    let mut of_key = usage.into_iter().filter(|used| used.key == key.id);
    let days = of_key.next().map(|used| used.days).unwrap_or_default();
    assert!(of_key.next().is_none(), "usage gives a key once");
    days.iter().map(|it| (it.day, it.requests, it.refusals)).collect()
}

/// Requests and refusals are added up by day, whatever the order in which they are noted and however
/// many are in one call; a day begins at midnight.
pub async fn uses_are_counted_by_day(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let other = insert(&store, record(&account("a"), time(0))).await;
    assert_eq!(counted(&store, &key).await, [], "of a key that was never used");
    let day = someday();
    let midnight = day_after(day, 1).start();
    let a_little = Duration::from_millis(1);
    note(&store, &[used(&key, midnight - a_little, 2, 1)]).await;
    note(&store, &[used(&key, midnight, 3, 0)]).await;
    assert_eq!(counted(&store, &key).await, [(day, 2, 1), (day_after(day, 1), 3, 0)]);
    let uses = [
        used(&key, midnight + Duration::from_hours(24) - a_little, 40, 50),
        used(&other, midnight, 6, 0),
        used(&key, midnight + Duration::from_hours(24), 0, 7),
        used(&key, day.start(), 100, 200),
        used(&key, midnight, 500, 600),
        used(&key, midnight, 500, 600),
    ];
    note(&store, &uses).await;
    let (next, last) = (day_after(day, 1), day_after(day, 2));
    let expected = [(day, 102, 201), (next, 1043, 1250), (last, 0, 7)];
    assert_eq!(counted(&store, &key).await, expected, "of several calls");
    assert_eq!(counted(&store, &other).await, [(next, 6, 0)], "of another key in the same call");
    let before = day.back(3);
    note(&store, &[used(&key, on(before), 1, 1), used(&key, on(last), 0, 0)]).await;
    let expected = [(before, 1, 1), (day, 102, 201), (next, 1043, 1250), (last, 0, 7)];
    assert_eq!(counted(&store, &key).await, expected, "after a note that came late");
    note(&store, &[used(&other, on(before), 0, 0)]).await;
    assert_eq!(counted(&store, &other).await, [(next, 6, 0)], "after a note of nothing");
}

/// What several callers note at the same time is all counted, whatever else is done to the key.
pub async fn uses_of_many_callers_add_up(store: Store) {
    const CALLERS: u64 = 8;
    const CALLS: u64 = 10;
    let (owner, day) = (account("a"), someday());
    let one = insert(&store, record(&owner, time(0))).await;
    let other = insert(&store, record(&owner, time(0))).await;
    let stranger = insert(&store, record(&account("b"), time(0))).await;
    let callers = usize::try_from(CALLERS).unwrap();
    at_once(callers + 1, |number| {
        let keys = [&one, &other, &stranger].map(Arc::clone);
        let store = Arc::clone(&store);
        async move {
            let [one, other, stranger] = &keys;
            if number == callers {
                let replaced = store.replace(&one.account, &one.id, secret(), time(1)).await;
                assert_done(replaced, "replace");
                let deleted = store.delete(&one.account, &other.id, time(2)).await;
                assert_done(deleted, "delete");
                return;
            }
            for call in 0..CALLS {
                let mut uses = vec![
                    used(one, on(day) + Duration::from_millis(call), 1, 2),
                    used(stranger, on(day), 0, 3),
                    used(other, on(day), 1, 0),
                    used(one, on(day_after(day, 1)), 0, 1),
                ];
                // No order is everybody's.
                uses.rotate_left(number % 4);
                note(&store, &uses).await;
            }
        }
    })
    .await;
    let all = CALLERS * CALLS;
    let expected = [(day, all, 2 * all), (day_after(day, 1), 0, all)];
    assert_eq!(counted(&store, &one).await, expected, "of 8 callers at once");
    assert_eq!(counted(&store, &other).await, [(day, all, 0)], "of 8 callers at once");
    assert_eq!(counted(&store, &stranger).await, [(day, 0, 3 * all)], "of another account");
}

/// Counts are exact up to 2⁵³ − 1, and stop there.
pub async fn counts_stop_where_numbers_end(store: Store) {
    let key = insert(&store, record(&account("a"), time(0))).await;
    let (at, day) = (on(someday()), someday());
    note(&store, &[used(&key, at, MOST_COUNTED - 5, 1 << 52)]).await;
    note(&store, &[used(&key, at, 2, 1)]).await;
    let exact = [(day, MOST_COUNTED - 3, (1 << 52) + 1)];
    assert_eq!(counted(&store, &key).await, exact, "a count is exact");
    let most = [(day, MOST_COUNTED, MOST_COUNTED)];
    note(&store, &[used(&key, at, 2, u64::MAX), used(&key, at, 2, u64::MAX)]).await;
    assert_eq!(counted(&store, &key).await, most, "a count stops at the end");
    note(&store, &[used(&key, at, u64::MAX, 1)]).await;
    assert_eq!(counted(&store, &key).await, most, "a count stays at the end");
    let other = insert(&store, record(&account("a"), time(0))).await;
    note(&store, &vec![used(&other, at, u64::MAX, i64::MAX as u64); 3]).await;
    assert_eq!(counted(&store, &other).await, most, "the sum of one call stops at the end");
}

/// Usage has the days on and after the one that is asked for, and the keys that have any.
pub async fn usage_begins_with_the_day_asked_for(store: Store) {
    let owner = account("a");
    let one = insert(&store, record(&owner, time(0))).await;
    let other = insert(&store, record(&owner, time(0))).await;
    let day = someday();
    for days in [0, 1, 5] {
        note(&store, &[used(&one, on(day_after(day, days)), 1, 0)]).await;
    }
    note(&store, &[used(&other, on(day_after(day, 1)), 0, 1)]).await;
    for (since, of_one, of_other) in [
        (Day::from_number(0), 3, 1),
        (day, 3, 1),
        (day_after(day, 1), 2, 1),
        (day_after(day, 2), 1, 0),
        (day_after(day, 5), 1, 0),
        (day_after(day, 6), 0, 0),
        (Day::from_number(u32::MAX), 0, 0),
    ] {
        let usage = store.usage(&owner, since).await.unwrap();
        let days = usage.iter().flat_map(|used| &used.days);
        assert!(days.clone().all(|it| it.day >= since), "since {since:?}: {usage:?}");
        assert!(usage.iter().all(|used| !used.days.is_empty()), "a key without a day: {usage:?}");
        assert_eq!(days.count(), of_one + of_other, "since {since:?}: {usage:?}");
    }
}

/// Usage is of the account's keys alone, in order of their ids.
pub async fn usage_is_of_one_account_and_in_order(store: Store) {
    let (owner, stranger) = (account("a"), account("b"));
    let mut keys = Vec::new();
    for id in ["key_b", "key_B", "key-b", "key_ba", "0", "key_a", "z", "Z"] {
        let key = KeyRecord { id: id.parse().unwrap(), ..record(&owner, time(0)) };
        keys.push(insert(&store, key).await);
    }
    let theirs = insert(&store, record(&stranger, time(0))).await;
    assert_done(store.delete(&owner, &keys[3].id, time(1)).await, "delete");
    let uses: Vec<_> = keys.iter().map(|key| used(key, on(someday()), 1, 0)).collect();
    note(&store, &uses).await;
    assert_eq!(usage(&store, &stranger).await, [], "of another account");
    assert_eq!(usage(&store, &account("A")).await, [], "of an account that has no keys");
    note(&store, &[used(&theirs, on(someday()), 0, 9)]).await;
    let mut expected: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
    expected.sort();
    let given: Vec<_> = usage(&store, &owner).await.into_iter().map(|used| used.key).collect();
    assert_eq!(given, expected, "in order of ids, byte by byte");
    let given = usage(&store, &stranger).await;
    let day = DayOfUse { day: someday(), requests: 0, refusals: 9 };
    let expected = KeyUsage {
        key: theirs.id.clone(),
        name: theirs.name.clone(),
        ended_at: None,
        days: vec![day],
    };
    assert_eq!(given, [expected], "of another account");
}

/// A use of a secret that was never filed is counted nowhere, also when the secret is filed later; its
/// account has had no key by it.
pub async fn a_use_of_an_unknown_secret_is_not_counted(store: Store) {
    let owner = account("a");
    let never = record(&owner, time(0));
    note(&store, &[used(&never, on(someday()), 1, 1)]).await;
    assert_eq!(usage(&store, &owner).await, [], "of an unknown secret");
    assert_nowhere(&store, &never).await;
    let key = Arc::new(never);
    let first = store.insert_first(Arc::clone(&key)).await;
    assert_eq!(said(first), Written::Done(()), "a note is no key");
    assert_eq!(usage(&store, &owner).await, [], "of a secret that was unknown when it was used");
    let unknown = record(&owner, time(0));
    let uses = [&unknown, &*key, &unknown].map(|key| used(key, on(someday()), 1, 1));
    note(&store, &uses).await;
    assert_eq!(counted(&store, &key).await, [(someday(), 1, 1)], "beside unknown ones");
    assert_eq!(usage(&store, &owner).await.len(), 1);
}

/// What is done with a secret that has expired or was ended, however it was, is put down to the key
/// that it belongs or belonged to.
pub async fn a_use_of_an_ended_secret_is_its_key_s(store: Store) {
    let (owner, leaving, day) = (account("a"), account("b"), someday());
    let new = || record(&owner, time(0));
    let deleted = insert(&store, new()).await;
    let regenerated = insert(&store, new()).await;
    let rotated = insert(&store, new()).await;
    let with_grace = insert(&store, new()).await;
    let expired = insert(&store, KeyRecord { expires_at: Some(time(1)), ..new() }).await;
    let of_account = insert(&store, record(&leaving, time(0))).await;
    let keys = [&deleted, &regenerated, &rotated, &with_grace, &expired, &of_account];
    note(&store, &keys.map(|key| used(key, on(day), 1, 0))).await;

    assert_done(store.delete(&owner, &deleted.id, time(2)).await, "delete");
    let replaced = store.replace(&owner, &regenerated.id, secret(), time(2)).await.unwrap();
    let Written::Done(regenerated_now) = replaced else { panic!("replace said {replaced:?}") };
    for (old, grace_ends) in [(&rotated, None), (&with_grace, Some(time(2)))] {
        let successor = Arc::new(record(&owner, time(2)));
        let done = store.rotate(&owner, &old.id, Arc::clone(&successor), grace_ends, 100).await;
        assert_done(done, "rotate");
        assert_eq!(counted(&store, &successor).await, [], "of a successor");
    }
    assert_eq!(store.delete_all(&leaving, time(2)).await.unwrap(), 1);

    note(&store, &keys.map(|key| used(key, on(day), 0, 3))).await;
    note(&store, &keys.map(|key| used(key, on(day_after(day, 1)), 0, 1))).await;
    let kinds = ["deleted", "regenerated", "rotated", "rotated with a grace", "expired", "last"];
    for (key, kind) in keys.iter().zip(kinds) {
        let expected = [(day, 1, 3), (day_after(day, 1), 0, 1)];
        assert_eq!(counted(&store, key).await, expected, "of a key that was {kind}");
    }
    note(&store, &[used(&regenerated_now, on(day), 5, 0)]).await;
    let expected = [(day, 6, 3), (day_after(day, 1), 0, 1)];
    assert_eq!(counted(&store, &regenerated).await, expected, "of both secrets of a key");
    assert_eq!(usage(&store, &owner).await.len(), 5, "keys that were used");
}

/// Usage gives a key's name as it is or was when the key ended, and the time of that end where no
/// secret of it is left; whichever of its secrets it was that was used.
pub async fn an_ended_key_is_named_as_it_was_at_its_end(store: Store) {
    let day = someday();
    for (owner, nth) in [(account("a"), 0), (account("b"), 1), (account("c"), 2)] {
        let mut secrets = vec![insert(&store, record(&owner, time(0))).await];
        let id = &secrets[0].id.clone();
        // Each secret ended under another name than the next, the last two at once.
        for (name, at) in [("Second", 3), ("Third", 5)] {
            let replaced = store.replace(&owner, id, secret(), time(at)).await.unwrap();
            let Written::Done(now) = replaced else { panic!("replace said {replaced:?}") };
            secrets.push(now);
            assert_done(store.rename(&owner, id, name.parse().unwrap()).await, "rename");
        }
        let known = async |name: &str, ended_at: Option<SystemTime>| {
            let usage = usage(&store, &owner).await;
            let [used] = usage.as_slice() else { panic!("one key was used: {usage:?}") };
            let given = (&used.key, used.name.as_str(), used.ended_at);
            assert_eq!(given, (id, name, ended_at), "after a use of secret {nth}");
        };
        let attempt = used(&secrets[nth], on(day), 0, 1);
        // Of one of the accounts, only after the end.
        if nth != 0 {
            note(&store, &[attempt]).await;
            known("Third", None).await;
        }
        assert_done(store.delete(&owner, id, time(5)).await, "delete");
        note(&store, &[attempt]).await;
        known("Third", Some(time(5))).await;
        note(&store, &[used(&secrets[0], on(day), 0, 1)]).await;
        known("Third", Some(time(5))).await;
    }
}

/// When a use is noted, the days of its key more than [`USAGE_KEPT`] before it are forgotten, those
/// after that are not, and no other account's are.
pub async fn days_are_forgotten_in_time(store: Store) {
    let (owner, day) = (account("a"), someday());
    let key = insert(&store, record(&owner, time(0))).await;
    let ended = insert(&store, record(&owner, time(0))).await;
    let theirs = insert(&store, record(&account("b"), time(0))).await;
    assert_done(store.delete(&owner, &ended.id, time(0)).await, "delete");
    let days = async |key: &KeyRecord| -> Vec<u32> {
        let counted = counted(&store, key).await;
        counted.iter().map(|(counted, ..)| counted.number() - day.number()).collect()
    };
    for key in [&key, &ended] {
        for (noted, left) in [
            (0, &[0][..]),
            (1, &[0, 1]),
            (USAGE_KEPT, &[0, 1, 90]),
            (USAGE_KEPT + 1, &[1, 90, 91]),
            (USAGE_KEPT + 2, &[90, 91, 92]),
            (182, &[92, 182]),
            (183, &[182, 183]),
            (5000, &[5000]),
        ] {
            note(&store, &[used(&theirs, on(day), 1, 0)]).await;
            note(&store, &[used(key, on(day_after(day, noted)), 1, 1)]).await;
            assert_eq!(days(key).await, left, "after a note of day {noted}");
        }
        assert_eq!(days(&theirs).await, [0], "of another account");
    }
}

/// Counting changes nothing of what is found, listed and got; it takes no version; and a note that
/// only counts refusals brings nothing back.
pub async fn counting_changes_nothing_else(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let expired = KeyRecord { expires_at: Some(time(1)), ..record(&owner, time(0)) };
    let expired = insert(&store, expired).await;
    let deleted = insert(&store, record(&owner, time(0))).await;
    assert_done(store.delete(&owner, &deleted.id, time(1)).await, "delete");
    let never = record(&owner, time(0));
    let keys = [&*key, &*expired, &*deleted, &never];
    let looked = async || {
        let mut seen = vec![format!("{:?}", store.changes(crate::store::Version::default()).await)];
        seen.push(format!("{:?}", store.list(&owner).await));
        for key in keys {
            seen.push(format!("{:?}", store.get(&owner, &key.id).await));
            seen.push(format!("{:?}", find(&store, key.fingerprint()).await));
        }
        seen
    };
    let before = looked().await;
    for at in [on(someday()), on(day_after(someday(), 1))] {
        note(&store, &keys.map(|key| used(key, at, 0, 2))).await;
    }
    assert_eq!(usage(&store, &owner).await.len(), 3, "keys that were tried");
    assert_eq!(looked().await, before, "what is there besides counts");
    assert_eq!(store.delete_all(&owner, time(2)).await.unwrap(), 2);
}
