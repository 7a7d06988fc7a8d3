//! Points in time as the page writes them: in UTC; the script puts them into the reader's zone.

use std::time::SystemTime;

use jiff::Timestamp;
use maud::{Markup, html};

use crate::store::Day;

/// Such as `21 Nov 2026`.
pub(super) fn day(time: SystemTime) -> Markup {
    let time = timestamp(time);
    html! { time datetime=(time) { (time.strftime("%-d %b %Y")) } }
}

/// Such as `21 Nov 2026, 20:15 UTC`.
pub(super) fn minute(time: SystemTime) -> Markup {
    let time = timestamp(time);
    html! { time.minute datetime=(time) { (time.strftime("%-d %b %Y, %H:%M UTC")) } }
}

/// Days are counted in UTC, whoever reads them, so the script leaves them alone.
pub(super) fn utc_day(day: Day) -> String {
    timestamp(day.start()).strftime("%a %-d %b").to_string()
}

/// Only what another program filed ends after the last day of the year 9999, which is as far as a timestamp goes.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}
