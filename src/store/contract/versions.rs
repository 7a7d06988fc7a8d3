//! Promises about versions and changes, one write after the other.

use std::sync::Arc;

use super::given::{NO_CAP, Store, account, assert_done, insert, record, said, secret, time};
use crate::digest::Fingerprint;
use crate::record::{KeyName, KeyRecord};
use crate::store::{CHANGES_KEPT, Change, Changes, NewSecret, Use, Version, Written};

/// A write that changes what `find` gives takes the next version, once, and its changes name every
/// secret that it filed, changed or ended.
pub async fn a_write_takes_one_version_and_names_what_it_touched(store: Store) {
    let owner = account("a");
    let first = Arc::new(record(&owner, time(0)));
    let print = first.fingerprint();
    let write = store.insert_first(Arc::clone(&first));
    assert_done(one_version(&store, "insert_first", &[print], write).await, "insert_first");
    let other = Arc::new(record(&owner, time(0)));
    let write = store.insert(Arc::clone(&other), NO_CAP);
    assert_done(one_version(&store, "insert", &[other.fingerprint()], write).await, "insert");
    let write = store.rename(&owner, &first.id, "Renamed".parse().unwrap());
    assert_done(one_version(&store, "rename", &[print], write).await, "rename");

    let (old, new) = (print, secret().digest);
    let print = new.fingerprint();
    let write = store.rehash(&owner, &first.id, old, new, time(1));
    assert_done(one_version(&store, "rehash", &[old, print], write).await, "rehash");

    let new = secret();
    let now = new.digest.fingerprint();
    let write = store.replace(&owner, &first.id, new, time(1));
    assert_done(one_version(&store, "replace", &[print, now], write).await, "replace");
    let second = Arc::new(record(&owner, time(2)));
    let print = second.fingerprint();
    let write = store.rotate(&owner, &first.id, Arc::clone(&second), Some(time(9)), NO_CAP);
    assert_done(one_version(&store, "rotate", &[now, print], write).await, "rotate");
    let third = Arc::new(record(&owner, time(3)));
    let touched = [print, third.fingerprint()];
    let write = store.rotate(&owner, &second.id, Arc::clone(&third), None, NO_CAP);
    assert_done(one_version(&store, "rotate at once", &touched, write).await, "rotate at once");

    let write = store.delete(&owner, &third.id, time(4));
    assert_done(one_version(&store, "delete", &[third.fingerprint()], write).await, "delete");
    insert(&store, record(&account("b"), time(0))).await;
    let fourth = insert(&store, record(&owner, time(4))).await.fingerprint();
    let touched = [now, other.fingerprint(), fourth];
    let write = store.delete_all(&owner, time(5));
    assert_eq!(one_version(&store, "delete_all", &touched, write).await.unwrap(), 3);
}

/// Does a write that must take one version and touch exactly these secrets.
async fn one_version<T>(
    store: &Store,
    what: &str,
    touched: &[Fingerprint],
    write: impl Future<Output = T>,
) -> T {
    let before = latest(store).await;
    let written = write.await;
    let (after, changes) = known(store, before).await;
    assert_eq!(after, before.next(), "{what} takes one version");
    let mut named: Vec<_> = changes.iter().map(|change| change.fingerprint).collect();
    let mut touched = touched.to_vec();
    named.sort();
    touched.sort();
    assert_eq!(named, touched, "{what} names what it touched");
    assert!(changes.iter().all(|change| change.version == after), "{what}: {changes:?}");
    written
}

/// A write that was refused or found nothing takes no version, and neither does a use.
pub async fn what_changes_nothing_takes_no_version(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let old = insert(&store, record(&owner, time(0))).await;
    let successor = Arc::new(record(&owner, time(1)));
    let rotated = store.rotate(&owner, &old.id, successor, Some(time(50)), NO_CAP).await;
    assert_done(rotated, "rotate");
    let before = latest(&store).await;
    let new = || Arc::new(record(&owner, time(1)));

    assert_eq!(said(store.insert(new(), 3).await), Written::Refused);
    assert_eq!(said(store.insert_first(new()).await), Written::Refused);
    let twin = Arc::new(KeyRecord { digest: key.digest.clone(), ..record(&owner, time(1)) });
    assert_eq!(said(store.insert(Arc::clone(&twin), NO_CAP).await), Written::Taken);
    let taken = NewSecret::new(old.digest.clone(), old.hint.clone());
    assert_eq!(said(store.replace(&owner, &key.id, taken, time(1)).await), Written::Taken);
    let print = key.fingerprint();
    let taken = store.rehash(&owner, &key.id, print, old.digest.clone(), time(1)).await;
    assert_eq!(said(taken), Written::Taken);
    let late = store.rehash(&owner, &key.id, old.fingerprint(), secret().digest, time(1)).await;
    assert_eq!(said(late), Written::NotFound);
    for grace_ends in [Some(time(50)), None] {
        let rotate = |id, new, cap| store.rotate(&owner, id, new, grace_ends, cap);
        assert_eq!(said(rotate(&key.id, new(), 1).await), Written::Refused);
        assert_eq!(said(rotate(&key.id, Arc::clone(&twin), NO_CAP).await), Written::Taken);
        assert_eq!(said(rotate(&old.id, new(), NO_CAP).await), Written::Superseded);
        assert_eq!(said(rotate(&twin.id, new(), NO_CAP).await), Written::NotFound);
    }
    let nobody = account("b");
    let renamed = store.rename(&nobody, &key.id, "x".parse().unwrap()).await;
    assert_eq!(said(renamed), Written::NotFound);
    let replaced = store.replace(&nobody, &key.id, secret(), time(1)).await;
    assert_eq!(said(replaced), Written::NotFound);
    assert_eq!(said(store.delete(&nobody, &key.id, time(1)).await), Written::NotFound);
    assert_eq!(store.delete_all(&nobody, time(1)).await.unwrap(), 0);
    assert_eq!(latest(&store).await, before, "a write that changed nothing took a version");

    store.mark_used(&[Use::new(key.fingerprint(), time(2))]).await.unwrap();
    assert_eq!(latest(&store).await, before, "a use took a version");
}

/// A new store is at version 0; `changes` gives what came after a version, in order and nothing
/// else; a version that was not reached yet is of another store: all is forgotten.
pub async fn changes_are_those_after_a_version(store: Store) {
    let (latest, changes) = known(&store, Version::default()).await;
    assert_eq!((latest, changes.len()), (Version::default(), 0), "of a new store");
    let owner = account("a");
    let mut expected = Vec::new();
    for number in 0..6 {
        let made = insert(&store, record(&owner, time(number))).await;
        expected.push(made.fingerprint());
    }
    for since in 0..=6 {
        let (latest, changes) = known(&store, Version::new(since)).await;
        assert_eq!(latest, Version::new(6));
        let versions: Vec<_> = changes.iter().map(|change| change.version.get()).collect();
        assert!(versions.iter().copied().eq(since + 1..=6), "since {since}: {versions:?}");
        let prints = changes.iter().map(|change| change.fingerprint);
        let expected = expected[usize::try_from(since).unwrap()..].iter().copied();
        assert!(prints.eq(expected), "since {since}: {changes:?}");
    }
    for beyond in [7, 1000, i64::MAX as u64, u64::MAX] {
        let Changes::Forgotten { latest } = store.changes(Version::new(beyond)).await.unwrap()
        else {
            panic!("a version that was never reached is known: {beyond}");
        };
        assert_eq!(latest, Version::new(6));
    }
}

/// The last [`CHANGES_KEPT`] versions are known; what is older is known whole or said to be
/// forgotten. Not one of those that [`store_contract!`](crate::store_contract) runs: unless the store
/// has that many versions already, it writes some 10,000 times.
pub async fn old_changes_are_known_whole_or_forgotten(store: Store) {
    let owner = account("a");
    let key = insert(&store, record(&owner, time(0))).await;
    let names: [KeyName; 2] = ["One".parse().unwrap(), "Another".parse().unwrap()];
    let written = latest(&store).await.get();
    let missing = (CHANGES_KEPT + 5).saturating_sub(written).max(5);
    for name in names.iter().cycle().take(usize::try_from(missing).unwrap()) {
        assert_done(store.rename(&owner, &key.id, name.clone()).await, "rename");
    }
    let end = latest(&store).await;
    assert_eq!(end.get(), written + missing, "each rename takes one version");
    for back in [0, 1, 5, CHANGES_KEPT - 1, CHANGES_KEPT, CHANGES_KEPT + 1, end.get()] {
        let since = Version::new(end.get() - back);
        match store.changes(since).await.unwrap() {
            Changes::Known { latest, changes } => {
                assert_eq!(latest, end);
                let versions = changes.iter().map(|change| change.version.get());
                let has_all = versions.eq(since.get() + 1..=end.get());
                assert!(has_all, "{back} versions back is known in part");
            }
            Changes::Forgotten { latest } => {
                assert_eq!(latest, end);
                assert!(back > CHANGES_KEPT, "{back} versions back is forgotten already");
            }
        }
    }
}

async fn latest(store: &Store) -> Version {
    match store.changes(Version::default()).await.unwrap() {
        Changes::Known { latest, .. } | Changes::Forgotten { latest } => latest,
    }
}

async fn known(store: &Store, since: Version) -> (Version, Vec<Change>) {
    match store.changes(since).await.unwrap() {
        Changes::Known { latest, changes } => (latest, changes),
        Changes::Forgotten { latest } => {
            panic!("the changes since {since:?} are forgotten at {latest:?}")
        }
    }
}
