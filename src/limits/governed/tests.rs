use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;

fn a_minute(requests: u32) -> Quota {
    Quota::new(NonZeroU32::new(requests).unwrap(), Duration::from_mins(1))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_quota_is_used_up_and_comes_back_evenly() {
    let clock = FakeRelativeClock::default();
    let counts = Counts::new(a_minute(6), clock.clone());
    for remaining in (0..6).rev() {
        let standing = counts.take(&"a").unwrap();
        assert_eq!((standing.quota, standing.remaining), (6, remaining));
        assert_eq!(standing.window, Duration::from_mins(1));
        assert_eq!(standing.reset_after, Duration::from_secs(10) * (6 - remaining));
    }
    let refused = counts.take(&"a").unwrap_err();
    assert_eq!((refused.remaining, refused.reset_after), (0, Duration::from_secs(10)));
    counts.take(&"b").expect("another has its own");

    clock.advance(Duration::from_millis(9_999));
    assert_eq!(counts.take(&"a").unwrap_err().reset_after, Duration::from_millis(1));
    clock.advance(Duration::from_millis(1));
    assert_eq!(counts.take(&"a").unwrap().remaining, 0);
    clock.advance(Duration::from_hours(1));
    assert_eq!(counts.take(&"a").unwrap().remaining, 5);
}

#[test]
fn an_address_that_fails_too_often_is_not_listened_to_until_one_comes_back() {
    let clock = FakeRelativeClock::default();
    let failures = Failures::new(a_minute(3), clock.clone());
    let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
    for _ in 0..3 {
        assert_eq!(failures.may_try(bad), Ok(()));
        failures.failed(bad);
    }
    assert_eq!(failures.may_try(bad), Err(Duration::from_secs(20)));
    assert_eq!(failures.may_try(address("::ffff:192.0.2.1")), Err(Duration::from_secs(20)));
    assert_eq!(failures.may_try(good), Ok(()));
    clock.advance(Duration::from_secs(20));
    assert_eq!(failures.may_try(bad), Ok(()));
    failures.failed(bad);
    assert!(failures.may_try(bad).is_err(), "one came back, and it is gone");
    clock.advance(Duration::from_mins(1));
    for _ in 0..2 {
        failures.failed(bad);
        assert_eq!(failures.may_try(bad), Ok(()));
    }
}

#[test]
fn what_was_under_way_when_the_budget_ended_is_waited_for_too() {
    let clock = FakeRelativeClock::default();
    let failures = Failures::new(a_minute(3), clock.clone());
    let bad = address("192.0.2.1");
    for _ in 0..4 {
        failures.failed(bad);
    }
    assert_eq!(failures.may_try(bad), Err(Duration::from_secs(40)));
    for _ in 0..1_000 {
        failures.failed(bad);
    }
    assert_eq!(failures.may_try(bad), Err(Duration::from_mins(1)), "and no longer than the window");
    clock.advance(Duration::from_mins(1));
    assert_eq!(failures.may_try(bad), Ok(()));
}

#[test]
fn of_ipv6_a_whole_network_is_one() {
    let failures = Failures::new(a_minute(1), FakeRelativeClock::default());
    failures.failed(address("2001:db8::1"));
    assert!(failures.may_try(address("2001:db8::ffff:2")).is_err());
    assert_eq!(failures.may_try(address("2001:db8:0:1::1")), Ok(()));
}

#[test]
fn who_is_listened_to_again_takes_up_no_room() {
    let clock = FakeRelativeClock::default();
    let failures = Failures::new(a_minute(1), clock.clone());
    let room = || {
        let paused = failures.paused.read().unwrap();
        (paused.until.len(), paused.tidied_at)
    };
    for number in 0..1_000_u32 {
        failures.failed(IpAddr::V4(number.into()));
    }
    assert_eq!(room(), (1_000, 1_024), "looked for when they have doubled, not each time");
    clock.advance(Duration::from_mins(1));
    for number in 0..100_u32 {
        failures.failed(IpAddr::V4((1 << 20 | number).into()));
    }
    assert_eq!(room(), (100, FEW));
}

#[test]
fn counts_that_are_whole_again_are_dropped_now_and_then_if_they_are_many() {
    for (counted, left) in [(10_000, 10_000), (10_001, 0)] {
        let clock = FakeRelativeClock::default();
        let counts = Counts::new(a_minute(1), clock.clone());
        for number in 0..counted {
            let _ = counts.take(&number);
        }
        clock.advance(Duration::from_hours(1));
        for _ in 1..NOW_AND_THEN {
            counts.tidy();
        }
        assert_eq!(counts.limiter.len(), counted);
        counts.tidy();
        assert_eq!(counts.limiter.len(), left);
    }
}

#[test]
fn a_quota_that_never_comes_back_is_one_of_a_hundred_years() {
    let quota = Quota::new(NonZeroU32::MIN, Duration::MAX);
    let clock = FakeRelativeClock::default();
    let counts = Counts::new(quota, clock.clone());
    let standing = counts.take(&0).unwrap();
    assert_eq!(standing.window, LONGEST);
    clock.advance(Duration::from_hours(99 * 24 * 365));
    assert!(counts.take(&0).is_err());
}

proptest! {
    #[test]
    fn every_quota_can_be_governed(requests in 1_u32.., window in any::<u64>().prop_map(Duration::from_nanos)) {
        let quota = Quota::new(NonZeroU32::new(requests).unwrap(), window);
        let counts = Counts::new(quota, FakeRelativeClock::default());
        prop_assert!(counts.take(&0).is_ok());
    }
}
