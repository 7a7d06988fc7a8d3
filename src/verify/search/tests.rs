use std::time::SystemTime;

use super::*;
use crate::key::KeyText;
use crate::store::StoreError;

fn digest(text: &str) -> KeyDigest {
    KeyDigest::of(KeyText::parse(text.as_bytes()).unwrap())
}

fn record(digest: KeyDigest) -> Arc<KeyRecord> {
    let (id, account, name) = ("key_1", "a", "A name");
    let (id, account, name) =
        (id.parse().unwrap(), account.parse().unwrap(), name.parse().unwrap());
    Arc::new(KeyRecord::new(id, account, name, digest, SystemTime::UNIX_EPOCH))
}

#[allow(clippy::unnecessary_wraps, reason = "as a store answers")]
fn live(text: &str) -> Found {
    Ok(Some(Entry::Live(record(digest(text)))))
}

#[allow(clippy::unnecessary_wraps, reason = "as a store answers")]
fn ended(text: &str, cause: EndCause) -> Found {
    let tombstone = record(digest(text)).tombstone(cause, SystemTime::UNIX_EPOCH);
    Ok(Some(Entry::Ended(Arc::new(tombstone))))
}

/// Asks with these answers until there is a verdict, and gives what was asked for.
fn asked(older: &[&str], answers: Vec<Found>) -> (Vec<Fingerprint>, Result<KeyDigest, Rejection>) {
    let mut search = Search::new(digest("today"), true);
    let mut asked = Vec::new();
    for answer in answers {
        asked.push(search.fingerprint());
        let older = || older.iter().map(|text| digest(text)).collect();
        if let Some(verdict) = search.hear(answer, older) {
            return (asked, verdict.map(|record| record.digest.clone()));
        }
    }
    panic!("there is no verdict");
}

fn prints(texts: &[&str]) -> Vec<Fingerprint> {
    texts.iter().map(|text| digest(text).fingerprint()).collect()
}

#[test]
fn what_is_found_today_is_asked_for_once() {
    let mut search = Search::new(digest("today"), true);
    let found = search.hear(live("today"), || panic!("older digests are made for nothing"));
    assert!(found.unwrap().is_ok());
    assert!(search.outdated().is_none());
}

#[test]
fn with_one_scheme_what_is_not_found_is_unknown() {
    let (asked, verdict) = asked(&[], vec![Ok(None)]);
    assert_eq!(asked, prints(&["today"]));
    let rejection = verdict.unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::UnknownKey);
    assert_eq!(rejection.fingerprint(), Some(digest("today").fingerprint()));
}

#[test]
fn older_digests_are_asked_for_in_order_until_one_is_there() {
    let (asked, verdict) = asked(&["one", "two", "three"], vec![Ok(None), Ok(None), live("two")]);
    assert_eq!(asked, prints(&["today", "one", "two"]));
    assert!(verdict.unwrap().matches(&digest("two")));
}

#[test]
fn an_outdated_key_is_told_with_the_digest_of_today() {
    let mut search = Search::new(digest("today"), true).prepared(|| vec![digest("one")]);
    assert!(search.hear(Ok(None), Vec::new).is_none());
    assert!(search.hear(live("one"), Vec::new).unwrap().is_ok());
    assert!(search.outdated().unwrap().matches(&digest("today")));
}

/// A collision of 64 bits: filed under the fingerprint is another key.
#[test]
fn another_key_of_the_same_fingerprint_is_no_find() {
    let mut bytes = *digest("one").as_bytes();
    bytes[31] ^= 1;
    let other = Ok(Some(Entry::Live(record(KeyDigest::from_bytes(bytes)))));
    let (asked, verdict) = asked(&["one", "two"], vec![Ok(None), other, live("two")]);
    assert_eq!(asked, prints(&["today", "one", "two"]));
    assert!(verdict.is_ok());
}

#[test]
fn what_ended_for_good_is_refused_under_every_scheme() {
    for (cause, kind) in [
        (EndCause::Deleted, RejectionKind::DeletedKey),
        (EndCause::Regenerated, RejectionKind::RegeneratedKey),
        (EndCause::Rotated, RejectionKind::RotatedKey),
    ] {
        let (_, verdict) = asked(&["one"], vec![ended("today", cause)]);
        assert_eq!(verdict.unwrap_err().kind(), kind);
        let (_, verdict) = asked(&["one", "two"], vec![Ok(None), ended("one", cause)]);
        let rejection = verdict.unwrap_err();
        assert_eq!(rejection.kind(), kind);
        assert_eq!(rejection.fingerprint(), Some(digest("one").fingerprint()));
        assert!(rejection.key_id().is_some());
    }
}

/// It was filed under today's digest between the two lookups.
#[test]
fn a_key_that_is_upgraded_meanwhile_is_found_the_second_time() {
    let rehashed = ended("one", EndCause::Rehashed);
    let (asked, verdict) =
        asked(&["one", "two"], vec![Ok(None), rehashed, Ok(None), live("today")]);
    assert_eq!(asked, prints(&["today", "one", "two", "today"]));
    assert!(verdict.unwrap().matches(&digest("today")));
}

/// Another process makes digests by a scheme that is an accepted one here.
#[test]
fn a_key_that_was_upgraded_to_an_accepted_scheme_is_found() {
    let rehashed = ended("today", EndCause::Rehashed);
    let (_, verdict) = asked(&["one", "next"], vec![rehashed, Ok(None), live("next")]);
    assert!(verdict.unwrap().matches(&digest("next")));
}

#[test]
fn a_key_that_was_upgraded_and_deleted_meanwhile_is_a_deleted_one() {
    let answers =
        vec![Ok(None), ended("one", EndCause::Rehashed), ended("today", EndCause::Deleted)];
    let (_, verdict) = asked(&["one"], answers);
    assert_eq!(verdict.unwrap_err().kind(), RejectionKind::DeletedKey);
}

/// A process that was not told of the scheme by which another one files keys: the key may well be live.
#[test]
fn what_was_upgraded_to_an_unknown_scheme_is_no_no() {
    let rehashed = || ended("one", EndCause::Rehashed);
    let (asked, verdict) = asked(&["one"], vec![Ok(None), rehashed(), Ok(None), rehashed()]);
    assert_eq!(
        asked,
        prints(&["today", "one", "today", "one"]),
        "looked for twice, and not for ever"
    );
    let rejection = verdict.unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::StoreFailed);
    let source = std::error::Error::source(&rejection).unwrap().to_string();
    assert!(source.contains("another Hashing"), "{source}");
}

#[test]
fn a_store_that_fails_at_any_of_them_is_no_no() {
    let failed = || Err(StoreError::unavailable("test", "down"));
    let (_, verdict) = asked(&["one"], vec![failed()]);
    assert_eq!(verdict.unwrap_err().kind(), RejectionKind::StoreFailed);
    let (asked, verdict) = asked(&["one", "two"], vec![Ok(None), failed()]);
    assert_eq!(asked.len(), 2);
    assert_eq!(verdict.unwrap_err().kind(), RejectionKind::StoreFailed);
}
