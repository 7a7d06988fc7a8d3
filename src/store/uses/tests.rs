use std::time::{Duration, SystemTime};

use super::Day;

fn after(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[test]
fn a_day_begins_at_midnight_and_ends_before_the_next() {
    const DAY: u64 = 86_400_000;
    for (time, number) in [
        (after(0), 0),
        (after(DAY - 1), 0),
        (after(DAY), 1),
        (after(20_000 * DAY - 1), 19_999),
        (after(20_000 * DAY), 20_000),
        (SystemTime::UNIX_EPOCH - Duration::from_millis(1), 0),
    ] {
        assert_eq!(Day::of(time).number(), number, "{time:?}");
    }
    // 2026-02-28T23:59:59.999Z and the millisecond after it.
    assert_eq!(
        Day::of(after(1_772_323_199_999)).number() + 1,
        Day::of(after(1_772_323_200_000)).number()
    );
}

#[test]
fn a_day_is_the_day_of_its_start() {
    for number in [0, 1, 20_453, 2_932_896, u32::MAX] {
        let day = Day::from_number(number);
        assert_eq!(day.number(), number);
        assert_eq!(Day::of(day.start()), day);
    }
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    assert_eq!(Day::of(far), Day::from_number(u32::MAX), "no day is beyond the last");
}

#[test]
fn going_back_ends_at_the_first_day() {
    let day = Day::from_number(90);
    assert_eq!(day.back(0), day);
    assert_eq!(day.back(89).number(), 1);
    assert_eq!(day.back(90).number(), 0);
    assert_eq!(day.back(u32::MAX).number(), 0);
}
