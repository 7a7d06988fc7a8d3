//! The page's dialogs. They hold no data: the script fills in the key that they are about.

use maud::{Markup, html};

use crate::record::Environment;

pub(super) fn all(sign_in: &str, environments: &[Environment]) -> Markup {
    html! {
        (create(environments))
        (created())
        (lost())
        (rename())
        (rotate())
        (regenerate())
        (delete())
        (ended(sign_in))
    }
}

/// A dialog with a form that the script sends; without the script it only closes.
fn form(id: &str, title: &str, fields: &Markup, submit: &Markup, cautious: bool) -> Markup {
    html! {
        dialog id=(id) aria-labelledby={ (id) "-title" } aria-describedby={ (id) "-text" } {
            form method="dialog" novalidate autocomplete="off" {
                h2 id={ (id) "-title" } { (title) }
                (fields)
                p.problem role="alert" {}
                div.buttons {
                    button.plain type="button" data-close autofocus[cautious] { "Cancel" }
                    (submit)
                }
            }
        }
    }
}

/// The key that the dialog is about.
fn subject() -> Markup {
    html! { strong { bdi data-subject {} } }
}

fn name_field(id: &str, hint: Option<&str>) -> Markup {
    html! {
        div.field {
            label for=(id) { "API Key Name" }
            input id=(id) name="name" type="text" required autofocus autocomplete="off" dir="auto"
                spellcheck="false" data-1p-ignore data-lpignore="true"
                aria-describedby={ (id) "-error " (id) "-hint" };
            p.error id={ (id) "-error" } {}
            p.hint id={ (id) "-hint" } { @if let Some(hint) = hint { (hint) } }
        }
    }
}

fn environment_field(known: &[Environment]) -> Markup {
    let names: Vec<&str> = known.iter().map(Environment::as_str).collect();
    html! {
        div.field {
            label for="create-environment" { "Environment" }
            input id="create-environment" name="environment" type="text" list="environments"
                autocomplete="off" autocapitalize="none" spellcheck="false"
                aria-describedby="create-environment-error create-environment-hint";
            datalist id="environments" { @for name in &names { option value=(name) {} } }
            p.error id="create-environment-error" {}
            p.hint id="create-environment-hint" {
                "Empty, or " (names.join(" or ")) ". It becomes part of the key, which then works nowhere else."
            }
        }
    }
}

fn create(environments: &[Environment]) -> Markup {
    let fields = html! {
        p.unseen id="create-text" { "The key is shown once, when it is made." }
        (name_field("create-name", Some("Something to recognise it by, such as Production CRM.")))
        details {
            summary { "More options" }
            @if !environments.is_empty() { (environment_field(environments)) }
            div.field {
                label for="create-expiry" { "Expires" }
                select id="create-expiry" name="expiry" {
                    option value="" selected { "Never" }
                    option value="30" { "In 30 days" }
                    option value="90" { "In 90 days" }
                    option value="365" { "In 365 days" }
                    option value="date" { "After a day that you choose" }
                }
            }
            div.field id="create-date-field" hidden {
                label for="create-date" { "Last day" }
                input id="create-date" name="expires_at" type="date" autocomplete="off"
                    aria-describedby="create-date-error create-date-hint";
                p.error id="create-date-error" {}
                p.hint id="create-date-hint" { "The key works until the end of this day, in your time." }
            }
        }
    };
    form("create", "Create API key", &fields, &submit("Generate key", "Generating…"), false)
}

fn submit(label: &str, busy: &str) -> Markup {
    html! { button.primary type="submit" data-busy=(busy) { (label) } }
}

fn destroy(label: &str, busy: &str) -> Markup {
    html! { button.primary.destroy type="submit" data-busy=(busy) { (label) } }
}

/// The only sight of a key. It does not close by itself, and not by mistake.
fn created() -> Markup {
    html! {
        dialog id="created" aria-labelledby="created-title" aria-describedby="created-text" closedby="none" {
            h2 id="created-title" { "API Key Created Successfully" }
            div id="created-text" {
                p { "Here is the key of " (subject()) "." }
                code id="key" translate="no" spellcheck="false" {}
                p.warning {
                    strong { "It is shown only once." }
                    " Copy it now and keep it in a safe place: nobody can show it again, not even we."
                }
            }
            p.problem role="alert" {}
            div.buttons { button.primary type="button" id="copy" autofocus { "Copy & close" } }
        }
    }
}

/// What is said when a creation was repeated because its answer had been lost.
fn lost() -> Markup {
    html! {
        dialog id="lost" aria-labelledby="lost-title" aria-describedby="lost-text" {
            form method="dialog" {
                h2 id="lost-title" { "This key cannot be shown" }
                div id="lost-text" {
                    p { (subject()) " was made the first time, but the answer with the key in it got lost on the way. A key is shown only once." }
                    p { "Regenerate it to get one that you can see, or delete it." }
                }
                div.buttons {
                    button.plain type="button" data-close { "Close" }
                    button.primary type="button" data-action="regenerate" autofocus { "Regenerate" }
                }
            }
        }
    }
}

fn rename() -> Markup {
    let fields = html! {
        p id="rename-text" { "Only the name changes. The key goes on working." }
        (name_field("rename-name", None))
    };
    form("rename", "Rename key", &fields, &submit("Save name", "Saving…"), false)
}

fn rotate() -> Markup {
    let fields = html! {
        div id="rotate-text" {
            p { "A new key is made beside " (subject()) ". The old one goes on working while you change your applications over, and then expires." }
        }
        div.field {
            label for="rotate-grace" { "The old key goes on working for" }
            select id="rotate-grace" name="grace_seconds" aria-describedby="rotate-hint" {
                option value="3600" { "1 hour" }
                option value="86400" selected { "1 day" }
                option value="604800" { "7 days" }
                option value="0" { "No longer: it stops now" }
            }
            p.hint id="rotate-hint" { "Until then, both count towards your active keys." }
        }
    };
    form("rotate", "Rotate key", &fields, &submit("Rotate key", "Rotating…"), false)
}

fn regenerate() -> Markup {
    let fields = html! {
        div id="regenerate-text" {
            p { (subject()) " gets a new key in place of the present one, which stops working at once." }
            p.warning {
                strong { "Any application using the present key will immediately lose access" }
                " until you give it the new one. To change over without a gap, rotate it instead."
            }
        }
    };
    form("regenerate", "Regenerate key", &fields, &destroy("Regenerate key", "Regenerating…"), true)
}

fn delete() -> Markup {
    let fields = html! {
        div id="delete-text" {
            p { "You are about to delete " (subject()) " for good." }
            p.warning {
                strong { "Any application using this key will immediately lose access." }
                " This cannot be undone."
            }
        }
    };
    form("delete", "Delete Key", &fields, &destroy("Delete key", "Deleting…"), true)
}

fn ended(sign_in: &str) -> Markup {
    html! {
        dialog id="ended" aria-labelledby="ended-title" aria-describedby="ended-text" {
            h2 id="ended-title" { "Your session has ended" }
            p id="ended-text" { "Nothing was changed. Sign in again to go on." }
            div.buttons { a.primary href=(sign_in) autofocus { "Sign in" } }
        }
    }
}
