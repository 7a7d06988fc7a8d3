//! How much a key was used, as a small picture and in words.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::dates;
use crate::store::{Day, DayOfUse};

/// How many days are shown, today included.
pub(super) const DAYS: u32 = 30;

/// One day's numbers.
#[derive(Clone, Copy, Default)]
struct Count {
    requests: u64,
    refusals: u64,
}

impl Count {
    fn total(self) -> u64 {
        self.requests.saturating_add(self.refusals)
    }
}

/// The numbers of the last days, the oldest first.
pub(super) struct Month {
    today: Day,
    days: [Count; DAYS as usize],
}

impl Month {
    /// Days that are not shown are passed over.
    pub(super) fn of(today: Day, days: impl IntoIterator<Item = DayOfUse>) -> Self {
        let mut month = Self { today, days: [Count::default(); DAYS as usize] };
        for DayOfUse { day, requests, refusals } in days {
            let ago = today.number().checked_sub(day.number());
            let place = ago.and_then(|ago| (DAYS - 1).checked_sub(ago));
            if let Some(count) = place.and_then(|place| month.days.get_mut(place as usize)) {
                *count = Count { requests, refusals };
            }
        }
        month
    }

    fn total(&self) -> Count {
        self.days.iter().fold(Count::default(), |sum, day| Count {
            requests: sum.requests.saturating_add(day.requests),
            refusals: sum.refusals.saturating_add(day.refusals),
        })
    }

    /// The picture with its sums, which opens the numbers of each day. `id` and `name` are the key's.
    pub(super) fn to_html(&self, id: &str, name: &str) -> Markup {
        let total = self.total();
        html! {
            @if total.total() == 0 {
                span.muted { "No requests" }
            } @else {
                button.usage type="button" popovertarget={ "days-" (id) } {
                    (self.picture())
                    span.sums {
                        @if total.requests > 0 || total.refusals == 0 {
                            (counted(total.requests, "request", "requests"))
                        }
                        @if total.refusals > 0 { " " span.no { (grouped(total.refusals)) " refused" } }
                    }
                    span.unseen { " in the last 30 days: show each day" }
                }
                div.days popover id={ "days-" (id) } role="region" tabindex="0"
                    aria-label={ "Requests by day: " (name) } { (self.table()) }
            }
        }
    }

    /// Bars, refused attempts on top of the others. Everything it says, the table says too.
    fn picture(&self) -> Markup {
        let most = self.days.iter().map(|day| day.total()).max().unwrap_or(0).max(1);
        let (mut ok, mut no) = (String::new(), String::new());
        for (place, day) in self.days.iter().enumerate() {
            let (x, requests, refusals) =
                (place * 4, height(day.requests, most), height(day.refusals, most));
            bar(&mut ok, x, 28, requests);
            bar(&mut no, x, 28 - requests, refusals);
        }
        html! {
            svg viewBox="0 0 119 29" width="119" height="29" aria-hidden="true" focusable="false" {
                path.axis d="M0 28.5h119" {}
                path.ok d=(ok) {}
                path.no d=(no) {}
            }
        }
    }

    fn table(&self) -> Markup {
        let days = (0..).zip(self.days.iter().rev()).filter(|(_, day)| day.total() > 0);
        html! {
            table {
                thead { tr {
                    th scope="col" { "Day (UTC)" }
                    th scope="col" { "Requests" }
                    th scope="col" { "Refused" }
                } }
                tbody { @for (ago, day) in days { tr {
                    th scope="row" { (dates::utc_day(self.today.back(ago))) }
                    td { (grouped(day.requests)) }
                    td { (grouped(day.refusals)) }
                } } }
            }
        }
    }
}

/// Of 24; whatever is not nothing can be seen.
fn height(count: u64, most: u64) -> u64 {
    let scaled = u128::from(count) * 24 / u128::from(most);
    u64::try_from(scaled).unwrap_or(24).max(u64::from(count > 0) * 2)
}

fn bar(path: &mut String, x: usize, y: u64, height: u64) {
    if height > 0 {
        let _ = write!(path, "M{x} {y}v-{height}h3v{height}z"); // Writing to a text does not fail.
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// Such as `1,204`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    let groups: Vec<_> = groups.into_iter().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests;
