//! One key in the list.

use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::dates;
use super::usage::Month;
use crate::record::KeyRecord;

/// An end that is nearer than this is said where it cannot be overlooked.
const SOON: Duration = Duration::from_hours(14 * 24);

/// How a key stands.
enum Status {
    Active,
    Ending(SystemTime),
    Replaced(SystemTime),
    Expired,
}

impl Status {
    fn of(record: &KeyRecord, now: SystemTime) -> Self {
        match (record.expires_at, &record.replaced_by) {
            (Some(end), _) if end <= now => Self::Expired,
            (Some(end), Some(_)) => Self::Replaced(end),
            (Some(end), None) if end <= now + SOON => Self::Ending(end),
            _ => Self::Active,
        }
    }

    /// Whether a new secret can take the place of the old one.
    fn is_replaceable(&self) -> bool {
        matches!(self, Self::Active | Self::Ending(_))
    }

    fn to_html(&self) -> Markup {
        html! {
            @match self {
                Self::Active => span.status.active { "Active" },
                Self::Ending(end) => span.status.ending { "Expires on " (dates::day(*end)) },
                Self::Replaced(end) => span.status.ending { "Replaced, works until " (dates::minute(*end)) },
                Self::Expired => span.status.expired { "Expired" },
            }
        }
    }
}

/// A row of the table on a wide screen, a card on a narrow one. The roles are written out because a
/// table that is not laid out as one loses them.
pub(super) fn row(record: &KeyRecord, usage: Option<&Month>, now: SystemTime) -> Markup {
    let (id, name) = (record.id.as_str(), record.name.as_str());
    let status = Status::of(record, now);
    html! {
        tr role="row" data-id=(id) data-name=(name) {
            th.name role="rowheader" scope="row" {
                bdi { (name) }
                @if !record.hint.as_str().is_empty() {
                    code translate="no" { span.unseen { ", " } (record.hint.as_str()) }
                }
            }
            td role="cell" data-label="Environment" {
                @match &record.environment {
                    Some(environment) => span.environment translate="no" { (environment.as_str()) },
                    None => span.muted { "Any" },
                }
                @if !record.sources.is_anywhere() { span.from { "only from " (record.sources) } }
            }
            td role="cell" data-label="Created" { (dates::day(record.created_at)) }
            td role="cell" data-label="Last used" { (last_used(record)) }
            td role="cell" data-label="Expires" {
                @match record.expires_at {
                    Some(end) => (dates::day(end)),
                    None => span.muted { "Never" },
                }
            }
            td role="cell" data-label="Status" { (status.to_html()) }
            @if let Some(usage) = usage {
                td role="cell" data-label="Last 30 days" { (usage.to_html(id, name)) }
            }
            td.actions role="cell" { (actions(id, name, &status)) }
        }
    }
}

fn last_used(record: &KeyRecord) -> Markup {
    html! {
        @match record.last_used_at {
            Some(used) => {
                (dates::minute(used))
                @if let Some(address) = record.last_used_from { span.from { "from " (address) } }
            }
            None => span.muted { "Never" },
        }
    }
}

fn actions(id: &str, name: &str, status: &Status) -> Markup {
    html! {
        div {
            button.link.danger type="button" id={ "delete-" (id) } data-action="delete" {
                "Delete" span.unseen { " " (name) }
            }
            button.more type="button" id={ "more-" (id) } popovertarget={ "menu-" (id) }
                aria-label={ "More actions for " (name) } { (dots()) }
        }
        div.menu popover id={ "menu-" (id) } {
            button type="button" data-action="rename" { "Rename" }
            @if status.is_replaceable() {
                button type="button" data-action="rotate" { "Rotate" }
                button type="button" data-action="regenerate" { "Regenerate" }
            }
            @if matches!(status, Status::Replaced(_)) {
                // Its successor is there: what is left of it is deleted, behind the same warning.
                button type="button" data-action="delete" { "Finish rotation now" }
            }
        }
    }
}

fn dots() -> Markup {
    html! {
        svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false" {
            @for x in [4, 10, 16] { circle cx=(x) cy="10" r="1.6" fill="currentColor" {} }
        }
    }
}
