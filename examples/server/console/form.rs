//! The sign-in form. It borrows the page's style.

use axum::response::Html;
use maud::{DOCTYPE, html};
use tower_api_key::AccountId;

/// The form; with what was wrong, if something was.
pub(super) fn page(account: &AccountId, wrong: &str) -> Html<String> {
    let is_wrong = !wrong.is_empty();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Sign in · APIs & Webhooks" }
                link rel="icon" href="/console/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/console/style.css";
            }
            body {
                main {
                    form.card.narrow method="post" action="/console/sign-in" {
                        h1 { "Sign in" }
                        p.muted { "To manage the API keys of " bdi { (account) } "." }
                        div.field {
                            label for="password" { "Password" }
                            input id="password" name="password" type="password" required autofocus
                                autocomplete="current-password" aria-describedby="password-error"
                                aria-invalid=[is_wrong.then_some("true")];
                            p.error id="password-error" role="alert" { (wrong) }
                        }
                        button.primary type="submit" { "Sign in" }
                    }
                }
            }
        }
    };
    Html(page.into_string())
}
