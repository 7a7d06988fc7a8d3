//! Sums, days and bars.

use super::{DAYS, Day, DayOfUse, Month, grouped, height};

fn month(counts: &[(u32, u64, u64)]) -> Month {
    let day = |&(day, requests, refusals): &_| DayOfUse {
        day: Day::from_number(day),
        requests,
        refusals,
    };
    Month::of(Day::from_number(20_000), counts.iter().map(day))
}

#[test]
fn days_that_are_not_shown_are_passed_over() {
    let first = 20_000 - DAYS + 1;
    let usage = month(&[(20_000, 5, 1), (first, 7, 0), (first - 1, 99, 99), (20_001, 99, 99)]);
    assert_eq!((usage.total().requests, usage.total().refusals), (12, 1));
    let html = usage.to_html("key_1", "A <name>").into_string();
    assert!(html.contains("12 requests") && html.contains("1 refused"), "{html}");
    assert!(html.contains("A &lt;name&gt;"), "{html}");
    assert_eq!(html.matches("<tr>").count(), 3, "a head and two days: {html}");
    assert!(!html.contains("style="), "{html}");
}

#[test]
fn what_is_not_nothing_can_be_seen() {
    assert_eq!([height(0, 9), height(9, 9), height(1, u64::MAX)], [0, 24, 2]);
    assert_eq!(height(u64::MAX, u64::MAX), 24);
}

#[test]
fn a_use_that_fills_the_counter_is_still_a_picture() {
    let usage = month(&[(20_000, u64::MAX, u64::MAX), (19_999, 1, 0)]);
    assert!(usage.to_html("key_1", "A").into_string().contains("M116 28v-24"));
}

#[test]
fn numbers_are_grouped() {
    let groups = [0, 7, 999, 1_000, 1_234_567].map(grouped);
    assert_eq!(groups, ["0", "7", "999", "1,000", "1,234,567"]);
}
