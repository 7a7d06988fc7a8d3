//! What an account can do with its keys, and what it is told when it cannot.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_api_key::store::LEASE;
use tower_api_key::{
    AccountId, Actor, Changes, DEFAULT_KEY_LIMIT, Day, Environment, Fingerprint, KeyDigest,
    KeyEvent, KeyId, KeyManager, KeyName, KeyRecord, KeyRegistry, KeyStore, KeyUsage, Lookup,
    ManageError, ManualClock, MemoryStore, NewSecret, ReplicaId, SharedRegistry as _, StoreError,
    Use, Version, Written,
};

use crate::contract_broken::faulty::{Broken, Faulty};
use crate::support::{Log, account, file_expired, named, record, text, time, with_key};

fn manager(clock: &ManualClock) -> KeyManager {
    KeyManager::new(MemoryStore::new(), "acme".parse().unwrap()).with_clock(clock.clone())
}

#[tokio::test]
async fn a_key_is_made_with_everything_that_was_asked_for() {
    let clock = ManualClock::at(time(0) + Duration::from_micros(1_500));
    let manager = manager(&clock);
    let new = named("Production CRM")
        .with_environment("live".parse().unwrap())
        .with_scopes("b a b".parse().unwrap())
        .with_expires_at(time(60) + Duration::from_nanos(999_999));
    let issued = manager.create(&account("a"), new).await.unwrap();
    let record = issued.record().clone();
    assert_eq!(record.name.as_str(), "Production CRM");
    assert_eq!(record.environment.as_ref().unwrap().as_str(), "live");
    assert_eq!(record.scopes.to_string(), "a b");
    assert_eq!(record.created_at, time(0) + Duration::from_millis(1), "whole milliseconds");
    assert_eq!(record.expires_at, Some(time(60)), "rounded down");
    assert!(record.replaced_by.is_none());

    let key = text(issued);
    assert_eq!(key.len(), "acme_live_".len() + 49);
    assert!(key.starts_with("acme_live_"));
    assert!(key[10..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(record.hint.as_str(), format!("acme_live_…{}", &key[key.len() - 4..]));
    assert_eq!(record.digest.as_bytes(), crate::support::digest(&key).as_bytes());
}

#[tokio::test]
async fn keys_differ_and_use_all_digits_evenly() {
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap()).with_limit(3_000);
    let mut counts = std::collections::BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let key = text(manager.create(&account("a"), named("x")).await.unwrap());
        for digit in key["acme_".len()..].bytes().take(43) {
            *counts.entry(digit).or_insert(0_i32) += 1;
        }
        assert!(seen.insert(key), "the same key twice");
    }
    // 129,000 digits over 62 values: 2,081 each, with a deviation of 45. `byte % 62` would put 2,520
    // on some of them.
    assert_eq!(counts.len(), 62);
    let even = counts.values().all(|count| (1_800..2_360).contains(count));
    assert!(even, "{counts:?}");
}

#[tokio::test]
async fn no_debug_output_and_no_log_has_the_key() {
    let (log, _guard) = Log::capture();
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let issued = manager.create(&account("a"), named("x")).await.unwrap();
    let id = issued.record().id.clone();
    let mut shown = vec![format!("{issued:?} {manager:?} {:?}", issued.record())];
    let revealed = issued.reveal();
    shown.push(format!("{revealed:?}"));
    let regenerated = manager.regenerate(&account("a"), &id).await.unwrap();
    shown.push(format!("{regenerated:?}"));
    let second = regenerated.reveal();
    for key in [revealed.as_str(), second.as_str()] {
        crate::witness::knows(key.as_bytes());
        for part in [key, &key[5..20], &key[20..40]] {
            assert!(shown.iter().all(|text| !text.contains(part)));
            assert!(!log.text().contains(part));
        }
    }
    for event in ["key created", "key regenerated"] {
        assert_eq!(log.lines(event).len(), 1, "{event}");
    }
}

#[tokio::test]
async fn the_default_cap_is_25_and_can_be_set() {
    assert_eq!(DEFAULT_KEY_LIMIT, 25);
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    for number in 0..25 {
        let _ = manager.create(&account("a"), named(&format!("{number}"))).await.unwrap();
    }
    let refused = manager.create(&account("a"), named("26")).await.unwrap_err();
    assert!(matches!(refused, ManageError::LimitReached { limit: 25 }));
    assert!(refused.to_string().contains("25"));
    let id = manager.list(&account("a")).await.unwrap()[3].id.clone();
    manager.delete(&account("a"), &id).await.unwrap();
    let _ = manager.create(&account("a"), named("26")).await.unwrap();
    let _ = manager.with_limit(26).create(&account("a"), named("27")).await.unwrap();
}

/// A layer refuses a key of an environment that it does not take; whoever has made it learns that there.
#[tokio::test]
async fn keys_are_made_for_the_environments_that_are_named_and_for_none() {
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let [live, test] = ["live", "test"].map(|name| name.parse::<Environment>().unwrap());
    let of = |environment: &Environment| named("x").with_environment(environment.clone());
    let owner = account("a");
    let _ = manager.create(&owner, of(&test)).await.unwrap();
    let old = manager.list(&owner).await.unwrap()[0].id.clone();
    assert_eq!(manager.environments(), None);

    let manager = manager.with_environments([live.clone()]);
    assert_eq!(manager.environments(), Some(&[live.clone()][..]));
    let refused = manager.create(&owner, of(&test)).await.unwrap_err();
    assert!(matches!(refused, ManageError::NoSuchEnvironment { .. }), "{refused:?}");
    assert!(refused.to_string().ends_with("one of these environments: live"), "{refused}");
    let first = manager.create_first(&account("b"), of(&test)).await.unwrap_err();
    assert!(matches!(first, ManageError::NoSuchEnvironment { .. }), "{first:?}");
    let _ = manager.create(&owner, of(&live)).await.unwrap();
    let _ = manager.create(&owner, named("x")).await.unwrap();
    let _ = manager.regenerate(&owner, &old).await.unwrap();

    let manager = manager.with_environments([]);
    let refused = manager.create(&owner, of(&live)).await.unwrap_err();
    assert!(refused.to_string().ends_with("no environment"), "{refused}");
    let _ = manager.create(&owner, named("x")).await.unwrap();
    assert_eq!(manager.list(&owner).await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_expired_before_a_moment_is_deleted_in_one_call() {
    let clock = ManualClock::at(time(0));
    let manager = manager(&clock);
    let owner = account("a");
    let _ = manager.create(&owner, named("never")).await.unwrap();
    for second in 1..=4 {
        let new = named(&format!("{second}")).with_expires_at(time(second));
        let _ = manager.create(&owner, new).await.unwrap();
    }
    clock.set(time(3));
    assert_eq!(manager.delete_expired(&owner, time(2)).await.unwrap(), 2);
    assert_eq!(manager.delete_expired(&owner, time(2)).await.unwrap(), 0);
    // What has not expired is not deleted, whatever moment is named.
    assert_eq!(manager.delete_expired(&owner, time(60)).await.unwrap(), 1);
    let left = manager.list(&owner).await.unwrap();
    let mut left: Vec<_> = left.iter().map(|key| key.name.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["4", "never"]);
}

/// Whoever rotates by a program reads no refusals before it is too late.
#[tokio::test]
async fn that_an_account_will_soon_list_too_many_expired_keys_is_logged_before() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let manager = manager.with_clock(ManualClock::at(time(0)));
    let owner = account("a");
    let warning = "lists very many expired keys";
    file_expired(&store, &owner, time(0), 899).await;
    let (log, _guard) = Log::capture();
    let ending = || named("x").with_expires_at(time(60));
    let _ = manager.create(&owner, ending()).await.unwrap();
    assert_eq!(log.lines(warning).len(), 0);
    file_expired(&store, &owner, time(0), 1).await;
    let _ = manager.create(&owner, ending()).await.unwrap();
    assert_eq!(log.lines(warning).len(), 1);
}

/// The cap alone would let it list a million keys by tomorrow.
#[tokio::test]
async fn an_account_that_makes_keys_without_end_lists_no_more_than_a_thousand_expired_ones() {
    let clock = ManualClock::at(time(0));
    let manager = manager(&clock);
    let owner = account("a");
    let mut made = 0;
    for second in 1..=60 {
        for _ in 0..25 {
            let new = named("x").with_expires_at(time(second));
            made += usize::from(manager.create(&owner, new).await.is_ok());
        }
        clock.set(time(second));
    }
    assert_eq!((made, manager.list(&owner).await.unwrap().len()), (1_000, 1_000));
}

#[tokio::test]
async fn while_a_thousand_keys_have_expired_none_is_made_that_would_be_one_more() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let manager = manager.with_clock(ManualClock::at(time(0)));
    let owner = account("a");
    let ending = || named("x").with_expires_at(time(60));
    let repeated = ending().with_idempotency_key("once".parse().unwrap());
    file_expired(&store, &owner, time(0), 999).await;
    let _ = manager.create(&owner, repeated.clone()).await.unwrap();
    let lasting = manager.create(&owner, named("x")).await.unwrap().record().id.clone();

    file_expired(&store, &owner, time(0), 1).await;
    let refused = manager.create(&owner, ending()).await.unwrap_err().to_string();
    assert!(refused.contains("1000 expired keys: delete some"), "{refused}");
    let refused = manager.rotate(&owner, &lasting, Duration::from_mins(1)).await.unwrap_err();
    assert!(refused.to_string().contains("1000 expired keys: delete some"), "{refused}");
    // Who repeats what was done is told so, and another account has nothing to do with it.
    let again = manager.create(&owner, repeated).await;
    assert!(matches!(again, Err(ManageError::AlreadyMade(_))), "{again:?}");
    let _ = manager.create(&account("b"), ending()).await.unwrap();

    // What leaves no expired key behind is done.
    let _ = manager.create(&owner, named("x")).await.unwrap();
    let _ = manager.regenerate(&owner, &lasting).await.unwrap();
    let lasting = manager.rotate(&owner, &lasting, Duration::ZERO).await.unwrap();
    let oldest = manager.list(&owner).await.unwrap()[0].id.clone();
    manager.delete(&owner, &oldest).await.unwrap();
    let id = &lasting.record().id;
    let _ = manager.rotate(&owner, id, Duration::from_mins(1)).await.unwrap();
    let _ = manager.create(&owner, ending()).await.unwrap();
}

#[tokio::test]
async fn an_expiry_that_is_past_or_cannot_be_written_is_refused() {
    let clock = ManualClock::at(time(100));
    let manager = manager(&clock);
    let end_of_time = SystemTime::UNIX_EPOCH + Duration::from_hours(70_389_502);
    let far = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX as u64)).unwrap();
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    for end in
        [time(99), time(100), time(100) + Duration::from_micros(1), end_of_time, far, before_1970]
    {
        let refused = manager.create(&account("a"), named("x").with_expires_at(end)).await;
        assert!(matches!(refused, Err(ManageError::InvalidExpiry)), "{end:?}");
        let refused = manager.create_first(&account("a"), named("x").with_expires_at(end)).await;
        assert!(matches!(refused, Err(ManageError::InvalidExpiry)), "{end:?}");
    }
    assert!(manager.list(&account("a")).await.unwrap().is_empty(), "nothing was stored");
    let last = end_of_time - Duration::from_millis(1);
    let _ = manager.create(&account("a"), named("x").with_expires_at(last)).await.unwrap();
    let soon = time(100) + Duration::from_millis(1);
    let _ = manager.create(&account("a"), named("x").with_expires_at(soon)).await.unwrap();
}

#[test]
fn names_and_ids_that_could_do_harm_are_not_parsed() {
    let huge = "x".repeat(10 << 20);
    let names = [
        "",
        " ",
        "\u{200b}",
        "a\0b",
        "a\nb",
        "a\rb",
        "a\tb",
        "\u{1b}[31mred",
        "a\u{7f}",
        "a\u{9b}b",
        "abc\u{202e}txt",
        "\u{2066}a",
        "a\u{200f}",
        "a\u{61c}",
        "a\u{2028}b",
        &"x".repeat(101),
        &huge,
    ];
    for name in names {
        let refused = name.parse::<KeyName>().unwrap_err().to_string();
        assert!(refused.len() < 100 && refused.starts_with("name: "), "{refused}");
    }
    for id in ["", "' OR 1=1 --", "../../etc/passwd", "key_1;", "key 1", "key_\0", "ключ", &huge]
    {
        assert!(id.parse::<KeyId>().is_err());
    }
    for owner in ["", "a\0", "a\nb", &huge, &"x".repeat(256)] {
        assert!(owner.parse::<AccountId>().is_err());
    }
}

#[tokio::test]
async fn regenerating_keeps_the_id_and_refuses_an_expired_key() {
    let clock = ManualClock::at(time(0));
    let manager = manager(&clock);
    let owner = account("a");
    let new = named("x").with_expires_at(time(60));
    let first = manager.create(&owner, new).await.unwrap();
    let id = first.record().id.clone();
    let again = manager.regenerate(&owner, &id).await.unwrap();
    assert_eq!(again.record().id, id);
    assert_eq!(again.record().expires_at, Some(time(60)));
    assert_ne!(again.record().hint, first.record().hint);
    assert_ne!(text(again), text(first));
    clock.set(time(60));
    let refused = manager.regenerate(&owner, &id).await;
    assert!(matches!(refused, Err(ManageError::Expired)));
}

#[tokio::test]
async fn rotating_gives_the_successor_the_old_one_s_lifetime() {
    let clock = ManualClock::at(time(0));
    let manager = manager(&clock);
    let owner = account("a");
    let new = named("x")
        .with_expires_at(time(1_000))
        .with_environment("live".parse().unwrap())
        .with_scopes("s".parse().unwrap());
    let old = manager.create(&owner, new).await.unwrap().record().clone();
    clock.set(time(900));
    let new = manager.rotate(&owner, &old.id, Duration::from_secs(50)).await.unwrap();
    let new = new.record().clone();
    assert_eq!(new.expires_at, Some(time(1_900)));
    assert_eq!(
        (&new.name, &new.environment, &new.scopes),
        (&old.name, &old.environment, &old.scopes)
    );
    assert_ne!(new.id, old.id);
    let old = manager.get(&owner, &old.id).await.unwrap();
    assert_eq!(old.expires_at, Some(time(950)));
    assert_eq!(old.replaced_by.as_ref(), Some(&new.id));
}

#[tokio::test]
async fn a_grace_can_be_zero_and_cannot_overflow() {
    let clock = ManualClock::at(time(0) + Duration::from_micros(700));
    let manager = manager(&clock);
    let owner = account("a");
    let old = manager.create(&owner, named("x")).await.unwrap().record().clone();
    for grace in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 40)] {
        let refused = manager.rotate(&owner, &old.id, grace).await;
        assert!(matches!(refused, Err(ManageError::InvalidExpiry)));
    }
    assert_eq!(manager.list(&owner).await.unwrap().len(), 1, "nothing was stored");
    let successor = manager.rotate(&owner, &old.id, Duration::ZERO).await.unwrap();
    let listed = manager.list(&owner).await.unwrap();
    assert_eq!(listed.len(), 1, "the old one is gone for good, whatever the clock says later");
    assert_eq!(listed[0].id, successor.record().id);
}

#[tokio::test]
async fn what_is_rotated_or_expired_is_neither_rotated_nor_regenerated() {
    let clock = ManualClock::at(time(0));
    let manager = manager(&clock);
    let owner = account("a");
    let id = manager.create(&owner, named("x")).await.unwrap().record().id.clone();
    let successor = manager.rotate(&owner, &id, Duration::from_mins(1)).await.unwrap();
    assert_eq!(successor.record().expires_at, None, "as the old one");
    for grace in [Duration::ZERO, Duration::from_mins(1)] {
        let again = manager.rotate(&owner, &id, grace).await;
        assert!(matches!(again, Err(ManageError::AlreadyRotated)), "{again:?}");
    }
    assert!(matches!(manager.regenerate(&owner, &id).await, Err(ManageError::AlreadyRotated)));
    clock.set(time(60));
    assert!(matches!(manager.rotate(&owner, &id, Duration::ZERO).await, Err(ManageError::Expired)));
    assert!(matches!(manager.regenerate(&owner, &id).await, Err(ManageError::Expired)));
    let again = manager.rotate(&owner, &successor.record().id, Duration::ZERO).await.unwrap();
    assert_eq!(again.record().expires_at, None);
}

/// Somebody rotates a key in the moment after it was looked at.
#[derive(Default)]
struct RotatedMeanwhile(MemoryStore);

#[async_trait::async_trait]
impl Faulty for RotatedMeanwhile {
    fn good(&self) -> &MemoryStore {
        &self.0
    }

    async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
        let before = self.0.get(account, id).await.unwrap();
        let successor = Arc::new(record(account, time(0)));
        let rotated = self.0.rotate(account, id, successor, Some(time(60)), 25).await.unwrap();
        assert_eq!(rotated, Written::Done(()));
        before
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_while_it_is_regenerated_gets_no_secret_that_soon_dies() {
    let registry = Broken(RotatedMeanwhile::default());
    let manager = KeyManager::new(registry, "acme".parse().unwrap());
    let manager = manager.with_clock(ManualClock::at(time(0)));
    let owner = account("a");
    let id = manager.create(&owner, named("x")).await.unwrap().record().id.clone();
    let refused = manager.regenerate(&owner, &id).await;
    assert!(matches!(refused, Err(ManageError::AlreadyRotated)), "{refused:?}");
}

#[tokio::test]
async fn the_first_key_is_made_once() {
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let owner = account("a");
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let (manager, owner) = (manager.clone(), owner.clone());
            tokio::spawn(
                async move { manager.create_first(&owner, named("First key")).await.unwrap() },
            )
        })
        .collect();
    let mut made = Vec::new();
    for call in calls {
        made.extend(call.await.unwrap());
    }
    assert_eq!(made.len(), 1);
    assert_eq!(manager.delete_all(&owner).await.unwrap(), 1);
    assert!(manager.create_first(&owner, named("Again")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_plan_without_keys_has_no_first_key_either() {
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    let owner = account("a");
    let without = manager.clone().with_limit(0);
    assert!(without.create_first(&owner, named("First key")).await.unwrap().is_none());
    assert!(manager.list(&owner).await.unwrap().is_empty());
    // It is made when the account has a plan with keys.
    assert!(manager.create_first(&owner, named("First key")).await.unwrap().is_some());
}

/// A replica that says nothing keeps every write waiting for a second after it is done.
async fn silence(store: &MemoryStore, number: u8) {
    store.enrol(ReplicaId::from_bytes([number; 16])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_told_also_when_the_caller_has_gone() {
    let store = MemoryStore::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let listener = move |event: &KeyEvent<'_>| {
        let by = |actor: Option<&Actor>| actor.map(ToString::to_string);
        heard.lock().unwrap().push(match event {
            KeyEvent::Created { by: actor, .. } => ("created", by(*actor)),
            KeyEvent::Imported { by: actor, .. } => ("imported", by(*actor)),
            KeyEvent::Renamed { by: actor, .. } => ("renamed", by(*actor)),
            KeyEvent::Regenerated { by: actor, .. } => ("regenerated", by(*actor)),
            KeyEvent::Rotated { by: actor, .. } => ("rotated", by(*actor)),
            KeyEvent::Deleted { by: actor, name: Some(_), .. } => ("deleted", by(*actor)),
            KeyEvent::DeletedAll { by: actor, .. } => ("all deleted", by(*actor)),
            _ => panic!("{event:?}"),
        });
    };
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap())
        .with_events(listener)
        .acting_for("alice".parse().unwrap());
    let a = account("a");
    let ids = async || {
        let records = store.list(&a).await.unwrap();
        records.iter().map(|record| record.id.clone()).collect::<Vec<_>>()
    };
    let (soon, grace) = (Duration::from_millis(1), Duration::from_hours(1));
    let mut expected = Vec::new();
    let mut number = 0;
    macro_rules! leave {
        ($what:expr, $change:expr) => {
            number += 1;
            silence(&store, number).await;
            let left = tokio::time::timeout(soon, $change).await;
            assert!(left.is_err(), "{} waits for nobody", $what);
            tokio::time::sleep(Duration::from_secs(3)).await;
            expected.push(($what, Some("alice".to_owned())));
            assert_eq!(*told.lock().unwrap(), expected);
        };
    }
    leave!("created", manager.create_first(&a, named("First")));
    leave!("created", manager.create(&a, named("Second")));
    let key = ids().await[0].clone();
    leave!("renamed", manager.rename(&a, &key, "Another".parse().unwrap()));
    leave!("regenerated", manager.regenerate(&a, &key));
    leave!("rotated", manager.rotate(&a, &key, grace));
    leave!("deleted", manager.delete(&a, &key));
    leave!("all deleted", manager.delete_all(&a));
    assert!(ids().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_another_call_has_finished_is_settled_before_that_is_said() {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let a = account("a");
    let old = manager.create(&a, named("x")).await.unwrap().record().id.clone();
    let _ = manager.rotate(&a, &old, Duration::from_hours(1)).await.unwrap();
    silence(&store, 1).await;
    let deleting = tokio::spawn({
        let (manager, a, old) = (manager.clone(), a.clone(), old.clone());
        async move { manager.delete(&a, &old).await }
    });
    while manager.get(&a, &old).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let asked = tokio::time::Instant::now();
    let finished = manager.finish_rotation(&a, &old).await;
    assert!(matches!(finished, Err(ManageError::NotFound)), "{finished:?}");
    let waited = asked.elapsed();
    assert!(waited >= LEASE, "the silent replica may know the key: {waited:?}");
    deleting.await.unwrap().unwrap();
}

#[test]
fn keys_are_managed_without_a_runtime() {
    let manager = KeyManager::new(MemoryStore::new(), "acme".parse().unwrap());
    futures_util::FutureExt::now_or_never(async {
        let issued = manager.create(&account("a"), named("x")).await.unwrap();
        manager.delete(&account("a"), &issued.record().id).await.unwrap();
    })
    .expect("nothing to wait for");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let store = MemoryStore::new();
    let (manager, _) = with_key(store).await;
    let id = manager.list(&account("admin@example.com")).await.unwrap()[0].id.clone();
    let other = account("other");
    let not_found =
        |result: Result<(), ManageError>| assert!(matches!(result, Err(ManageError::NotFound)));
    not_found(manager.get(&other, &id).await.map(drop));
    not_found(manager.rename(&other, &id, "x".parse().unwrap()).await.map(drop));
    not_found(manager.regenerate(&other, &id).await.map(drop));
    not_found(manager.rotate(&other, &id, Duration::ZERO).await.map(drop));
    not_found(manager.delete(&other, &id).await);
    assert_eq!(manager.delete_all(&other).await.unwrap(), 0);
    let owner = account("admin@example.com");
    manager.delete(&owner, &id).await.unwrap();
    not_found(manager.delete(&owner, &id).await);
}

/// Says "taken" a number of times, then does as it is told.
struct Colliding(MemoryStore, AtomicUsize);

impl Colliding {
    fn is_taken(&self) -> bool {
        self.1
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

impl KeyStore for Colliding {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.0.find(fingerprint)
    }
}

#[async_trait::async_trait]
impl KeyRegistry for Colliding {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        if self.is_taken() { Ok(Written::Taken) } else { self.0.insert(record, limit).await }
    }
    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        if self.is_taken() { Ok(Written::Taken) } else { self.0.insert_first(record).await }
    }
    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.0.list(account).await
    }
    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.get(account, id).await
    }
    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.0.rename(account, id, name).await
    }
    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        if self.is_taken() {
            Ok(Written::Taken)
        } else {
            self.0.replace(account, id, secret, at).await
        }
    }
    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.0.rehash(account, id, old, digest, at).await
    }
    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        if self.is_taken() {
            Ok(Written::Taken)
        } else {
            self.0.rotate(account, id, successor, grace_ends, limit).await
        }
    }
    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.0.delete(account, id, at).await
    }
    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        self.0.delete_all(account, at).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.0.mark_used(uses).await
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.0.usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        self.0.changes(since).await
    }

    async fn settle(&self) {
        self.0.settle().await;
    }
}

#[tokio::test]
async fn a_collision_is_met_with_another_key() {
    let owner = account("a");
    let colliding = |times| Arc::new(Colliding(MemoryStore::new(), AtomicUsize::new(times)));
    for times in 0..4 {
        let store = colliding(times);
        let again = || store.1.store(times, Ordering::Relaxed);
        let manager = KeyManager::new(Arc::clone(&store), "acme".parse().unwrap());
        assert!(manager.create_first(&owner, named("first")).await.unwrap().is_some());
        again();
        let id = manager.create(&owner, named("x")).await.unwrap().record().id.clone();
        again();
        let _new = manager.regenerate(&owner, &id).await.unwrap();
        again();
        let _new = manager.rotate(&owner, &id, Duration::ZERO).await.unwrap();
        assert_eq!(manager.list(&owner).await.unwrap().len(), 2);
    }
    let manager = KeyManager::new(colliding(usize::MAX), "acme".parse().unwrap());
    let refused = manager.create(&owner, named("x")).await;
    assert!(
        matches!(refused, Err(ManageError::NoFreeKey)),
        "a broken generator is no endless loop"
    );
}
