use std::time::Duration;

use super::*;
use crate::digest::KeyDigest;

const END: Duration = Duration::from_hours(500_000);

fn at(since_1970: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + since_1970
}

fn record() -> KeyRecord {
    KeyRecord::new(
        "key_1".parse().unwrap(),
        "admin@example.com".parse().unwrap(),
        "Production CRM".parse().unwrap(),
        KeyDigest::from_bytes([7; 32]),
        at(Duration::from_hours(400_000)),
    )
}

fn expiring() -> KeyRecord {
    KeyRecord { expires_at: Some(at(END)), ..record() }
}

fn of_environment(environment: &str) -> KeyRecord {
    KeyRecord { environment: Some(environment.parse().unwrap()), ..record() }
}

fn with_scopes(scopes: &str) -> KeyRecord {
    KeyRecord { scopes: scopes.parse().unwrap(), ..record() }
}

fn in_environment(environment: &str) -> Policy {
    Policy { environment: Here::In(environment.parse().unwrap()), ..Policy::default() }
}

fn wanting(scopes: &str) -> Policy {
    Policy {
        scopes: scopes.split(' ').map(|scope| scope.parse().unwrap()).collect(),
        ..Policy::default()
    }
}

/// For records that cannot expire.
fn no_clock() -> SystemTime {
    panic!("the clock was asked, and it costs 28 ns")
}

/// For records that may be used from anywhere.
fn nowhere() -> Option<IpAddr> {
    panic!("it was asked where the request came from, which headers must be read for")
}

#[test]
fn a_plain_record_passes_a_plain_policy_without_a_look_at_the_clock() {
    assert_eq!(Policy::default().check(&record(), no_clock, nowhere), Ok(()));
}

#[test]
fn the_clock_is_asked_once_when_the_record_can_expire() {
    let mut asked = 0;
    let now = || {
        asked += 1;
        at(Duration::ZERO)
    };
    assert_eq!(Policy::default().check(&expiring(), now, nowhere), Ok(()));
    assert_eq!(asked, 1);
}

#[test]
fn a_key_expires_at_its_instant_and_not_a_millisecond_before() {
    let check = |now| Policy::default().check(&expiring(), || now, nowhere);
    let end = at(END);
    assert_eq!(check(at(Duration::ZERO)), Ok(()));
    assert_eq!(check(end - Duration::from_millis(1)), Ok(()));
    assert_eq!(check(end - Duration::from_nanos(1)), Ok(()));
    assert_eq!(check(end), Err(RejectionKind::ExpiredKey));
    assert_eq!(check(end + Duration::from_millis(1)), Err(RejectionKind::ExpiredKey));
    assert_eq!(check(at(END * 2)), Err(RejectionKind::ExpiredKey));
}

#[test]
fn a_key_of_this_environment_passes() {
    assert_eq!(in_environment("live").check(&of_environment("live"), no_clock, nowhere), Ok(()));
}

#[test]
fn a_key_of_another_environment_is_refused() {
    for other in ["test", "liv", "live1", "l"] {
        assert_eq!(
            in_environment("live").check(&of_environment(other), no_clock, nowhere),
            Err(RejectionKind::WrongEnvironment),
            "{other}"
        );
    }
}

#[test]
fn a_key_that_is_bound_to_no_environment_passes_in_all() {
    assert_eq!(in_environment("live").check(&record(), no_clock, nowhere), Ok(()));
}

#[test]
fn a_service_that_names_no_environment_takes_keys_that_are_bound_to_none() {
    assert_eq!(Policy::default().check(&record(), no_clock, nowhere), Ok(()));
    let bound = Policy::default().check(&of_environment("test"), no_clock, nowhere);
    assert_eq!(bound, Err(RejectionKind::WrongEnvironment));
}

#[test]
fn a_service_of_all_environments_takes_the_keys_of_each() {
    let policy = Policy { environment: Here::Anywhere, ..Policy::default() };
    for record in [record(), of_environment("live"), of_environment("test")] {
        assert_eq!(policy.check(&record, no_clock, nowhere), Ok(()));
    }
}

#[test]
fn a_key_with_the_scope_passes_whatever_else_it_has() {
    for scopes in ["bookings:read", "a bookings:read z", "bookings:read bookings:write"] {
        assert_eq!(
            wanting("bookings:read").check(&with_scopes(scopes), no_clock, nowhere),
            Ok(()),
            "{scopes}"
        );
    }
}

#[test]
fn a_key_without_the_very_scope_is_refused() {
    for scopes in [
        "",
        "bookings:write",
        "bookings",
        "bookings:",
        "bookings:*",
        "*",
        "bookings:read-all",
        "Bookings:read",
        "read",
    ] {
        assert_eq!(
            wanting("bookings:read").check(&with_scopes(scopes), no_clock, nowhere),
            Err(RejectionKind::MissingScope),
            "{scopes}"
        );
    }
}

#[test]
fn a_key_needs_every_scope_that_is_wanted() {
    for (scopes, expected) in [
        ("a b", Ok(())),
        ("a b c", Ok(())),
        ("a", Err(RejectionKind::MissingScope)),
        ("b", Err(RejectionKind::MissingScope)),
        ("", Err(RejectionKind::MissingScope)),
    ] {
        let said = wanting("a b").check(&with_scopes(scopes), no_clock, nowhere);
        assert_eq!(said, expected, "{scopes}");
    }
}

#[test]
fn a_service_that_wants_no_scope_takes_keys_with_any() {
    assert_eq!(Policy::default().check(&with_scopes("webhooks:write"), no_clock, nowhere), Ok(()));
}

#[test]
fn expiry_is_judged_before_the_environment_and_that_before_the_scope() {
    let policy =
        Policy { environment: Here::In("live".parse().unwrap()), ..wanting("bookings:read") };
    let check = |record: &KeyRecord| policy.check(record, || at(END), nowhere);
    let mut record = KeyRecord { expires_at: Some(at(END)), ..of_environment("test") };
    assert_eq!(check(&record), Err(RejectionKind::ExpiredKey));
    record.expires_at = Some(at(END * 2));
    assert_eq!(check(&record), Err(RejectionKind::WrongEnvironment));
    record.environment = Some("live".parse().unwrap());
    assert_eq!(check(&record), Err(RejectionKind::MissingScope));
    record.scopes = "bookings:read".parse().unwrap();
    assert_eq!(check(&record), Ok(()));
}

#[test]
fn a_key_for_some_addresses_works_from_those_only() {
    let record = KeyRecord { sources: "203.0.113.0/24".parse().unwrap(), ..record() };
    let check = |from: Option<&str>| {
        Policy::default().check(&record, no_clock, || from.map(|from| from.parse().unwrap()))
    };
    assert_eq!(check(Some("203.0.113.9")), Ok(()));
    for elsewhere in [Some("203.0.114.9"), Some("::1"), None] {
        assert_eq!(check(elsewhere), Err(RejectionKind::WrongSource), "{elsewhere:?}");
    }
}
