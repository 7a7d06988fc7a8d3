use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use super::*;
use crate::digest::KeyDigest;
use crate::record::{EndCause, KeyRecord};

fn fingerprint(number: u64) -> Fingerprint {
    Fingerprint::from_bytes(number.to_be_bytes())
}

fn record(id: &str) -> KeyRecord {
    KeyRecord::new(
        id.parse().unwrap(),
        "admin@example.com".parse().unwrap(),
        "Production CRM".parse().unwrap(),
        KeyDigest::from_bytes([7; 32]),
        SystemTime::UNIX_EPOCH,
    )
}

fn live(id: &str) -> Entry {
    Entry::Live(Arc::new(record(id)))
}

/// The id of the live record that is filed there.
fn found(index: &Index, fingerprint: Fingerprint) -> Option<String> {
    match index.get(fingerprint)? {
        Entry::Live(record) => Some(record.id.to_string()),
        Entry::Ended(_) => Some("ended".to_owned()),
    }
}

#[test]
fn nothing_is_found_in_an_empty_index() {
    assert!(Index::default().get(fingerprint(1)).is_none());
}

#[test]
fn what_was_filed_last_is_found() {
    let index = Index::default();
    index.set(fingerprint(1), live("first"));
    assert_eq!(found(&index, fingerprint(1)).as_deref(), Some("first"));
    index.set(fingerprint(1), live("second"));
    assert_eq!(found(&index, fingerprint(1)).as_deref(), Some("second"));
    let tombstone = record("second").tombstone(EndCause::Deleted, SystemTime::UNIX_EPOCH);
    index.set(fingerprint(1), Entry::Ended(Arc::new(tombstone)));
    assert_eq!(found(&index, fingerprint(1)).as_deref(), Some("ended"));
}

#[test]
fn fingerprints_that_differ_in_one_bit_are_kept_apart() {
    let index = Index::default();
    index.set(fingerprint(0), live("zero"));
    for bit in 0..64 {
        assert!(index.get(fingerprint(1 << bit)).is_none(), "bit {bit}");
        index.set(fingerprint(1 << bit), live(&format!("bit-{bit}")));
    }
    assert_eq!(found(&index, fingerprint(0)).as_deref(), Some("zero"));
    for bit in 0..64 {
        let expected = format!("bit-{bit}");
        assert_eq!(found(&index, fingerprint(1 << bit)), Some(expected));
    }
}

#[test]
fn digests_spread_over_all_shards() {
    let index = Index::default();
    let shards: HashSet<*const RwLock<Map>> = (0..2000_u32)
        .map(|number| {
            let text = number.to_string();
            let key = crate::key::KeyText::parse(text.as_bytes()).unwrap();
            std::ptr::from_ref(index.shard(KeyDigest::of(key).fingerprint()))
        })
        .collect();
    assert_eq!(shards.len(), SHARDS);
}

#[test]
fn a_panic_under_the_lock_leaves_the_index_usable() {
    let index = Arc::new(Index::default());
    index.set(fingerprint(1), live("kept"));
    let poisoner = Arc::clone(&index);
    let panicked = thread::spawn(move || {
        let _shard = poisoner.shard(fingerprint(1)).write().unwrap();
        // Without the panic hook's message, which would look like a failure in the test's output.
        std::panic::resume_unwind(Box::new("poisoned on purpose"));
    });
    assert!(panicked.join().is_err());
    assert!(index.shard(fingerprint(1)).is_poisoned());
    assert_eq!(found(&index, fingerprint(1)).as_deref(), Some("kept"));
    index.set(fingerprint(1), live("changed"));
    assert_eq!(found(&index, fingerprint(1)).as_deref(), Some("changed"));
}

#[test]
fn readers_find_whole_entries_while_others_write() {
    let index = Index::default();
    index.set(fingerprint(1), live("a"));
    thread::scope(|scope| {
        for id in ["a", "b"] {
            let index = &index;
            scope.spawn(move || {
                for other in 0..500 {
                    index.set(fingerprint(1), live(id));
                    index.set(fingerprint(other << 8), live(id));
                }
            });
        }
        for _ in 0..500 {
            let found = found(&index, fingerprint(1)).unwrap();
            assert!(["a", "b"].contains(&&*found), "{found}");
        }
    });
}
