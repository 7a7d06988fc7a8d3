//! The page around the list, and the list in its states.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use maud::{DOCTYPE, Markup, html};

use super::usage::Month;
use super::{dates, dialogs, row};
use crate::manage::EXPIRED_KEY_LIMIT;
use crate::record::{Environment, KeyId, KeyName, KeyRecord};
use crate::store::{Day, DayOfUse, KeyUsage};

/// What every page is framed by.
pub(super) struct Frame<'a> {
    pub(super) service: Option<&'a str>,
    pub(super) heading: &'a str,
    pub(super) makes_first: bool,
    pub(super) account: &'a str,
    pub(super) sign_in: &'a str,
    pub(super) sign_out: Option<&'a str>,
    /// Those that a key may be bound to, where somebody has said which.
    pub(super) environments: &'a [Environment],
}

/// The account's keys, as they are now.
pub(super) struct Overview {
    now: SystemTime,
    limit: usize,
    keys: Vec<Arc<KeyRecord>>,
    /// Nothing where usage is not counted, or cannot be had now.
    usage: Option<HashMap<KeyId, Month>>,
    deleted: Vec<Deleted>,
}

/// A deleted key that somebody still tries.
struct Deleted {
    key: KeyId,
    name: KeyName,
    ended_at: SystemTime,
    usage: Month,
}

impl Overview {
    pub(super) fn new(keys: Vec<Arc<KeyRecord>>, limit: usize, now: SystemTime) -> Self {
        Self { now, limit, keys, usage: None, deleted: Vec::new() }
    }

    /// Adds how much the keys were used. Where nothing was counted at all, perhaps nobody counts: then
    /// nothing is said of it.
    pub(super) fn count(&mut self, usage: Vec<KeyUsage>) {
        let today = Day::of(self.now);
        for KeyUsage { key, name, ended_at, days } in usage {
            let Some(ended_at) = ended_at else {
                self.usage.get_or_insert_default().insert(key, Month::of(today, days));
                continue;
            };
            let attempts =
                days.into_iter().filter(|day| day.day >= Day::of(ended_at) && day.refusals > 0);
            let attempts = attempts.map(|day| DayOfUse { requests: 0, ..day }).collect::<Vec<_>>();
            if !attempts.is_empty() {
                self.deleted.push(Deleted {
                    key,
                    name,
                    ended_at,
                    usage: Month::of(today, attempts),
                });
            }
        }
    }
}

/// The whole page; without an overview it says that the keys cannot be had now.
pub(super) fn page(frame: &Frame<'_>, overview: Option<&Overview>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "API Keys" @if let Some(service) = frame.service { " · " (service) } }
                link rel="icon" href="icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="style.css";
                // Nothing is there to be pressed before the script is there to hear of it, in browsers that
                // know `blocking`.
                script src="script.js" defer blocking="render" {}
            }
            body {
                (bar(frame))
                main {
                    h1 { (frame.heading) }
                    div id="list" data-first[frame.makes_first && overview.is_some_and(|overview| overview.keys.is_empty())] {
                        @match overview {
                            Some(overview) => (keys(overview)),
                            None => (unavailable()),
                        }
                    }
                }
                p id="said" role="status" {}
                (dialogs::all(frame.sign_in, frame.environments))
            }
        }
    }
}

fn bar(frame: &Frame<'_>) -> Markup {
    html! {
        header {
            span.brand {
                img src="icon.svg" alt="" width="28" height="28";
                @if let Some(service) = frame.service { bdi { (service) } }
            }
            span.account { span.unseen { "Account: " } bdi { (frame.account) } }
            @if let Some(path) = frame.sign_out {
                form method="post" action=(path) { button.link type="submit" { "Sign out" } }
            }
        }
    }
}

fn unavailable() -> Markup {
    html! {
        section.card aria-labelledby="api-keys" {
            div.head { h2 id="api-keys" tabindex="-1" { "API Keys" } }
            div.empty {
                p { strong { "Your keys cannot be shown just now." } }
                p { "They are safe and nothing was changed. Wait a moment and try again." }
                a.primary href="." { "Try again" }
            }
        }
    }
}

fn keys(overview: &Overview) -> Markup {
    let Overview { now, limit, keys, .. } = overview;
    let active = keys.iter().filter(|key| !key.is_expired(*now)).count();
    let expired = keys.len() - active;
    let full = active >= *limit;
    html! {
        section.card aria-labelledby="api-keys" {
            div.head {
                div {
                    h2 id="api-keys" tabindex="-1" { "API Keys" }
                    p id="active" { (active) " of " (limit) " active" }
                }
                button.primary type="button" id="create-key" data-action="create" disabled[full]
                    aria-describedby=[full.then_some("full")] { "Create API key" }
            }
            noscript { p.notice { "Making and changing keys needs JavaScript, which is turned off. The list is up to date." } }
            @if full {
                p.notice id="full" {
                    "You have " (active) " active keys, the most that an account can have. Delete one that you no longer use to make room for another."
                }
            }
            @if expired >= EXPIRED_KEY_LIMIT {
                p.notice {
                    "You have " (expired) " expired keys, the most that an account can have. Until you delete some of them, no key that expires can be made, and none that is rotated can go on working for a while."
                }
            }
            @if keys.is_empty() { (empty()) } @else { (table(overview)) }
        }
        @if !overview.deleted.is_empty() { (deleted(&overview.deleted)) }
        p.foot {
            "Send a key in the " code translate="no" { "API-Key" }
            " header of every call, over HTTPS. Only a one-way hash of each key is stored, so a key is shown once, when it is made."
        }
    }
}

fn empty() -> Markup {
    html! {
        div.empty {
            p { strong { "You have no API keys." } }
            p { "A key lets a program of yours call the API in your name. Make one for each program, so that each can be replaced without the others." }
        }
    }
}

fn table(overview: &Overview) -> Markup {
    let Overview { now, keys, usage, .. } = overview;
    let columns = ["Name", "Environment", "Created", "Last used", "Expires", "Status"];
    let of = |key: &KeyId| usage.as_ref().and_then(|usage| usage.get(key));
    let unused = usage.is_some().then(|| Month::of(Day::of(*now), []));
    html! {
        table.keys role="table" aria-labelledby="api-keys" {
            thead role="rowgroup" { tr role="row" {
                @for column in columns { th role="columnheader" scope="col" { (column) } }
                @if usage.is_some() { th role="columnheader" scope="col" { "Last 30 days" } }
                th role="columnheader" scope="col" { span.unseen { "Actions" } }
            } }
            tbody role="rowgroup" {
                @for key in keys { (row::row(key, of(&key.id).or(unused.as_ref()), *now)) }
            }
        }
    }
}

fn deleted(deleted: &[Deleted]) -> Markup {
    html! {
        section.card aria-labelledby="attempts" {
            div.head { div {
                h2 id="attempts" { "Attempts with deleted keys" }
                p { "Somebody still calls with these keys. Every attempt was refused." }
            } }
            ul.deleted { @for key in deleted { li {
                div.name { bdi { (key.name.as_str()) } span.muted { "Deleted on " (dates::day(key.ended_at)) } }
                (key.usage.to_html(key.key.as_str(), key.name.as_str()))
            } } }
        }
    }
}
