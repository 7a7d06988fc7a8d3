use std::sync::Arc;

use super::*;
use crate::digest::KeyDigest;
use crate::limits::Limited;
use crate::record::KeyRecord;
use crate::rejection::RejectionKind;

/// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
const SOME_TIME: u64 = 784_111_777;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn caller(change: impl FnOnce(&mut KeyRecord)) -> Identity {
    let mut record = KeyRecord::new(
        "key_1".parse().unwrap(),
        "admin@example.com".parse().unwrap(),
        "Production CRM".parse().unwrap(),
        KeyDigest::from_bytes([7; 32]),
        at(0),
    );
    change(&mut record);
    Identity::verified(Arc::new(record))
}

fn rotated(key: &mut KeyRecord) {
    key.replaced_by = Some("key_2".parse().unwrap());
    key.replaced_at = Some(at(SOME_TIME - 86_400));
    key.expires_at = Some(at(SOME_TIME));
}

fn no_clock() -> SystemTime {
    panic!("the clock was asked")
}

fn headers(notice: &Notice) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    notice.write(&mut headers);
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    lines.sort();
    lines
}

fn pairs(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn most_callers_are_told_nothing_and_no_clock_is_asked() {
    let notices = Notices::default();
    assert!(notices.of(&caller(|_| ()), None, no_clock).0.is_none());
    let expiring = caller(|key| key.expires_at = Some(at(SOME_TIME)));
    assert!(notices.of(&expiring, None, no_clock).0.is_none());
    let told = Notices { expiry_within: Some(Duration::MAX), rate_limit: true };
    assert!(told.of(&caller(|_| ()), None, no_clock).0.is_none());
}

#[test]
fn in_its_grace_a_key_is_deprecated_and_has_a_sunset() {
    let notice = Notices::default().of(&caller(rotated), None, no_clock);
    let expected = [("deprecation", "@784025377"), ("sunset", "Sun, 06 Nov 1994 08:49:37 GMT")];
    assert_eq!(headers(&notice), pairs(&expected));
}

#[test]
fn a_key_that_ends_soon_says_when() {
    let notices = Notices { expiry_within: Some(Duration::from_secs(100)), rate_limit: false };
    let expiring = caller(|key| key.expires_at = Some(at(SOME_TIME)));
    let told = |now| headers(&notices.of(&expiring, None, || at(now)));
    assert_eq!(told(SOME_TIME - 101), []);
    let expected = pairs(&[("api-key-expires", "Sun, 06 Nov 1994 08:49:37 GMT")]);
    assert_eq!(told(SOME_TIME - 100), expected);
    assert_eq!(told(SOME_TIME - 1), expected);
}

#[test]
fn what_is_left_of_a_quota_is_told_where_that_was_asked_for() {
    let standing = Standing {
        quota: 600,
        window: Duration::from_mins(1),
        remaining: 12,
        reset_after: Duration::from_millis(58_001),
    };
    let caller = caller(|_| ());
    assert_eq!(headers(&Notices::default().of(&caller, Some(standing), no_clock)), []);
    let notices = Notices { expiry_within: None, rate_limit: true };
    let expected =
        pairs(&[("ratelimit", r#""key";r=12;t=59"#), ("ratelimit-policy", r#""key";q=600;w=60"#)]);
    assert_eq!(headers(&notices.of(&caller, Some(standing), no_clock)), expected);

    let limited = Limited { retry_after: Duration::from_millis(200), standing: Some(standing) };
    let rejection = Rejection::from(RejectionKind::RateLimited).with_source(limited);
    let with_retry = [&expected[..], &pairs(&[("retry-after", "1")])].concat();
    assert_eq!(headers(&notices.of_refused(&rejection)), with_retry);
    assert_eq!(headers(&Notices::default().of_refused(&rejection)), with_retry[2..]);
}

#[test]
fn what_the_service_says_itself_stays() {
    let mut headers = HeaderMap::new();
    headers.insert("sunset", HeaderValue::from_static("mine"));
    Notices::default().of(&caller(rotated), None, no_clock).write(&mut headers);
    assert_eq!(headers["sunset"], "mine");
}

#[test]
fn of_the_pair_that_a_service_says_one_of_neither_is_added() {
    for own in ["sunset", "deprecation"] {
        let mut headers = HeaderMap::new();
        headers.insert(own, HeaderValue::from_static("mine"));
        let told = Notices { expiry_within: Some(Duration::MAX), rate_limit: false };
        told.of(&caller(rotated), None, || at(0)).write(&mut headers);
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers[own], "mine");
        assert_eq!(headers["api-key-expires"], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

#[test]
fn times_past_the_year_9999_are_not_written() {
    assert_eq!(http_date(at(253_402_300_799)).unwrap(), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(http_date(at(253_402_300_800)), None);
}

#[test]
fn who_is_never_to_come_again_is_not_told_to_come_in_a_second() {
    let limited = |retry_after| {
        let limited = Limited { retry_after, standing: None };
        Rejection::from(RejectionKind::RateLimited).with_source(limited)
    };
    let said = |retry_after| headers(&Notices::default().of_refused(&limited(retry_after)));
    for never in [Duration::MAX, Duration::from_secs(1 << 31)] {
        assert_eq!(said(never), pairs(&[("retry-after", "2147483647")]));
    }
    assert_eq!(said(Duration::from_millis(1_001)), pairs(&[("retry-after", "2")]));
}
