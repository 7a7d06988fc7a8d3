//! What a store holds, read in every way that there is; the ways must agree.

use std::fmt::Write as _;
use std::sync::Arc;

use tower_api_key::{AccountId, Changes, Entry, Fingerprint, KeyRecord, Version};

use super::Store;

/// The account's keys. What is listed is got and found, and of these secrets nothing else is live.
pub(super) async fn coherent(
    store: &Store,
    owner: &AccountId,
    secrets: &[Fingerprint],
) -> Vec<Arc<KeyRecord>> {
    let listed = store.list(owner).await.unwrap();
    for record in &listed {
        let got = store.get(owner, &record.id).await.unwrap().expect("what is listed is got");
        assert_eq!(format!("{got:?}"), format!("{record:?}"));
        match store.find(record.fingerprint()).await.unwrap() {
            Some(Entry::Live(found)) => assert_eq!(format!("{found:?}"), format!("{record:?}")),
            found => panic!("listed, but found as {found:?}"),
        }
    }
    for &secret in secrets {
        let is_listed = listed.iter().any(|record| record.fingerprint() == secret);
        let found = store.find(secret).await.unwrap();
        assert_eq!(matches!(found, Some(Entry::Live(_))), is_listed, "found {found:?}");
    }
    listed
}

pub(super) async fn version(store: &Store) -> Version {
    match store.changes(Version::default()).await.unwrap() {
        Changes::Known { latest, .. } | Changes::Forgotten { latest } => latest,
    }
}

/// The account's keys, what is found of these secrets, and what changed since a version, as text.
pub(super) async fn snapshot(
    store: &Store,
    owner: &AccountId,
    secrets: &[Fingerprint],
    since: Version,
) -> String {
    let mut text = String::new();
    for record in coherent(store, owner, secrets).await {
        writeln!(text, "listed {record:?}").unwrap();
    }
    for &secret in secrets {
        writeln!(text, "found {:?}", store.find(secret).await.unwrap()).unwrap();
    }
    match store.changes(since).await.unwrap() {
        Changes::Known { latest, mut changes } => {
            changes.sort_by_key(|change| (change.version, change.fingerprint.to_string()));
            writeln!(text, "{latest:?} {changes:?}").unwrap();
        }
        Changes::Forgotten { latest } => writeln!(text, "forgotten {latest:?}").unwrap(),
    }
    text
}
