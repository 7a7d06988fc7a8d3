//! Promises about the roll of the replicas that share a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::given::{account, at_once, insert, record, time, while_watched};
use crate::digest::Fingerprint;
use crate::store::{Changes, Enrolled, KeyRegistry, ReplicaId, SharedRegistry, Version};

type Shared = Arc<dyn SharedRegistry>;

/// Everything that [`SharedRegistry`] promises, asked of these handles of one store in turn: of a store
/// whose replicas answer from memory (`CachedStore::shared`). The handles should have connections of
/// their own.
///
/// ```
/// use std::sync::Arc;
/// use tower_api_key::store::contract::the_roll_is_kept_between_stores;
/// use tower_api_key::{MemoryStore, SharedRegistry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let store: Arc<dyn SharedRegistry> = Arc::new(MemoryStore::new());
/// the_roll_is_kept_between_stores(&[Arc::clone(&store), store]).await;
/// # }
/// ```
pub async fn the_roll_is_kept_between_stores(stores: &[Arc<dyn SharedRegistry>]) {
    who_enrols_has_applied_nothing(stores).await;
    a_stranger_is_refused(stores).await;
    a_renewal_notes_what_was_applied_and_tells_what_was_not(stores).await;
    a_version_that_is_not_reached_is_not_noted(stores).await;
    a_suspect_is_refused_for_good(stores).await;
    who_withdraws_is_off_the_roll(stores).await;
    a_renewal_tells_every_write_that_returned(stores).await;
    no_renewal_after_a_suspicion_is_granted(stores).await;
    nothing_is_settled_before_it_was_applied(stores).await;
}

async fn who_enrols_has_applied_nothing(stores: &[Shared]) {
    let replica = enrol(&stores[0]).await;
    for store in stores {
        let row = Enrolled { id: replica, applied: Version::default(), is_suspected: false };
        assert_eq!(
            find(store, replica).await,
            Some(row),
            "who enrols is on the roll, with nothing"
        );
        let (version, latest) = (store.roll().await.unwrap().version, latest(store).await);
        assert_eq!(version, latest, "the roll's version is the store's");
    }
    // So that there is a version.
    write(&stores[0]).await;
    let latest = latest(&stores[0]).await;
    renew(&stores[0], replica, latest).await;
    stores[0].enrol(replica).await.unwrap();
    let applied = find(&stores[0], replica).await.map(|row| row.applied);
    assert_eq!(applied, Some(latest), "who is on the roll stays there as it is");
}

async fn a_stranger_is_refused(stores: &[Shared]) {
    let (store, stranger) = (&stores[0], next());
    let renewed = store.renew(stranger, Version::default()).await.unwrap();
    assert_eq!(renewed, None, "who is not on the roll is refused");
    store.suspect(&[stranger]).await.unwrap();
    assert_eq!(find(store, stranger).await, None, "only enrolling puts a replica on the roll");
    store.withdraw(&[stranger]).await.unwrap();
}

async fn a_renewal_notes_what_was_applied_and_tells_what_was_not(stores: &[Shared]) {
    let (one, other) = (&stores[0], &stores[stores.len() - 1]);
    let replica = enrol(one).await;
    let before = latest(one).await;
    let written = write(one).await;
    let told = renew(other, replica, before).await;
    let after = latest(one).await;
    let Changes::Known { latest, changes } = told else { panic!("what was just written is told") };
    let told: Vec<_> = changes.iter().map(|change| change.fingerprint).collect();
    assert_eq!((latest, told), (after, vec![written]), "a renewal tells what was written since");
    let row = find(one, replica).await.unwrap();
    assert_eq!(row.applied, before, "what a renewal tells is not applied yet");
    let told = renew(other, replica, after).await;
    assert_eq!(told, Changes::Known { latest: after, changes: Vec::new() }, "nothing is new");
    let row = find(one, replica).await.unwrap();
    assert_eq!(row.applied, after, "a renewal notes what was applied");
}

async fn a_version_that_is_not_reached_is_not_noted(stores: &[Shared]) {
    let store = &stores[0];
    let replica = enrol(store).await;
    for beyond in [latest(store).await.get() + 1, u64::MAX] {
        renew(store, replica, Version::new(beyond)).await;
        let row = find(store, replica).await.unwrap();
        assert_eq!(
            row.applied,
            Version::default(),
            "a store that went back must not wait for less"
        );
    }
}

async fn a_suspect_is_refused_for_good(stores: &[Shared]) {
    let store = &stores[0];
    let (replica, other) = (enrol(store).await, enrol(store).await);
    stores[stores.len() - 1].suspect(&[replica]).await.unwrap();
    for _ in 0..2 {
        let renewed = store.renew(replica, Version::default()).await.unwrap();
        assert_eq!(renewed, None, "a suspect is refused");
        let is_suspected = find(store, replica).await.map(|row| row.is_suspected);
        assert_eq!(is_suspected, Some(true), "a suspect is on the roll as such");
        store.enrol(replica).await.unwrap();
        store.suspect(&[replica]).await.unwrap();
    }
    renew(store, other, Version::default()).await;
    store.withdraw(&[replica, other]).await.unwrap();
}

async fn who_withdraws_is_off_the_roll(stores: &[Shared]) {
    let store = &stores[0];
    let (stays, goes) = (enrol(store).await, enrol(store).await);
    for _ in 0..2 {
        stores[stores.len() - 1].withdraw(&[goes]).await.unwrap();
        assert_eq!(find(store, goes).await, None, "who withdraws is off the roll");
    }
    assert!(find(store, stays).await.is_some(), "others stay on it");
    let renewed = store.renew(goes, Version::default()).await.unwrap();
    assert_eq!(renewed, None, "who has withdrawn is refused");
    store.withdraw(&[stays]).await.unwrap();
    store.withdraw(&[]).await.unwrap();
}

async fn a_renewal_tells_every_write_that_returned(stores: &[Shared]) {
    at_once(8, |number| {
        let (store, other) = (&stores[number % stores.len()], &stores[(number + 1) % stores.len()]);
        let (store, other) = (Arc::clone(store), Arc::clone(other));
        async move {
            let replica = enrol(&other).await;
            for _ in 0..8 {
                let before = latest(&other).await;
                let written = write(&store).await;
                let told = renew(&other, replica, before).await;
                let Changes::Known { changes, .. } = told else { panic!("it was just written") };
                let is_told = changes.iter().any(|change| change.fingerprint == written);
                assert!(is_told, "a renewal tells what was written before it");
            }
            other.withdraw(&[replica]).await.unwrap();
        }
    })
    .await;
}

async fn no_renewal_after_a_suspicion_is_granted(stores: &[Shared]) {
    for round in 0..8 {
        let replica = enrol(&stores[0]).await;
        let other = Arc::clone(&stores[(round + 1) % stores.len()]);
        let renewing = move |store: Shared, is_suspected: bool| async move {
            let renewed = store.renew(replica, Version::default()).await.unwrap();
            assert!(!(is_suspected && renewed.is_some()), "a suspect is refused at once");
            store
        };
        let suspicion = async move { other.suspect(&[replica]).await.unwrap() };
        while_watched(stores.to_vec(), renewing, suspicion).await;
        stores[0].withdraw(&[replica]).await.unwrap();
    }
}

async fn nothing_is_settled_before_it_was_applied(stores: &[Shared]) {
    let (one, other) = (&stores[0], &stores[stores.len() - 1]);
    // Whoever is on it from before would be waited for.
    let before: Vec<_> = one.roll().await.unwrap().replicas.iter().map(|row| row.id).collect();
    one.withdraw(&before).await.unwrap();
    one.settle().await;
    let replica = enrol(other).await;
    write(one).await;
    let is_applied = Arc::new(AtomicBool::new(false));
    let settling = {
        let (one, is_applied) = (Arc::clone(one), Arc::clone(&is_applied));
        tokio::spawn(async move {
            one.settle().await;
            is_applied.load(Ordering::SeqCst)
        })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    is_applied.store(true, Ordering::SeqCst);
    renew(other, replica, latest(other).await).await;
    assert!(settling.await.unwrap(), "a write is settled when every replica has applied it");
    other.withdraw(&[replica]).await.unwrap();
}

/// A replica of its own.
fn next() -> ReplicaId {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = u128::from(NUMBER.fetch_add(1, Ordering::Relaxed));
    // Not all of it zero: a store may cut that off.
    ReplicaId::from_bytes((number << 64 | 0xff00_0000_0000_00ff).to_be_bytes())
}

async fn enrol(store: &Shared) -> ReplicaId {
    let replica = next();
    store.enrol(replica).await.unwrap();
    replica
}

async fn renew(store: &Shared, replica: ReplicaId, applied: Version) -> Changes {
    let renewed = store.renew(replica, applied).await.unwrap();
    let Some(changes) = renewed else { panic!("who is on the roll, and no suspect, is granted") };
    changes
}

async fn find(store: &Shared, replica: ReplicaId) -> Option<Enrolled> {
    let roll = store.roll().await.unwrap();
    let mut rows = roll.replicas.into_iter().filter(|row| row.id == replica);
    let row = rows.next();
    assert_eq!(rows.next(), None, "each replica is on the roll once");
    row
}

async fn latest(store: &Shared) -> Version {
    store.changes(Version::new(u64::MAX)).await.unwrap().latest()
}

/// Writes something; what that touches.
async fn write(store: &Shared) -> Fingerprint {
    let store: Arc<dyn KeyRegistry> = Arc::clone(store) as _;
    insert(&store, record(&account("replicas"), time(0))).await.fingerprint()
}
