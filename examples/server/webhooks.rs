//! Webhooks belong to the account, not to the key that made them: they outlive it, and any live key
//! of the account manages them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{self, State};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tower_api_key::Identity;

use crate::failure::{Failure, Told};

const MOST_PER_ACCOUNT: usize = 100;

#[derive(Clone, Serialize, Deserialize)]
struct Webhook {
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    created_at: String,
}

/// What a webhook is to be.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(
    dead_code,
    reason = "described here, and read field by field below, to say which one is wrong"
)]
pub(crate) struct NewWebhook {
    /// Unique in the account.
    #[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    name: String,
    #[schema(
        min_length = 1,
        max_length = 2_000,
        pattern = r"^https://[a-z0-9]{1,60}\.example/[a-z]*$"
    )]
    url: String,
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<EventName>,
}

/// What to be told of.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
#[allow(dead_code, reason = "a description")]
pub(crate) struct EventName(String);

/// A webhook.
#[derive(utoipa::ToSchema)]
#[schema(as = Webhook)]
#[allow(dead_code, reason = "a description of `to_json`")]
pub(crate) struct WebhookView {
    #[schema(inline)]
    object: String,
    id: String,
    name: String,
    url: String,
    events: Vec<String>,
    #[schema(format = DateTime)]
    created_at: String,
}

/// All webhooks of an account.
#[derive(utoipa::ToSchema)]
#[schema(as = WebhookList)]
#[allow(dead_code, reason = "a description")]
pub(crate) struct WebhookListView {
    object: String,
    data: Vec<WebhookView>,
}

/// Every account's webhooks, in order of creation, and the number of the next one.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Book {
    next: u64,
    accounts: BTreeMap<String, Vec<Webhook>>,
}

/// The webhooks in memory, and on the disk when there is a file.
#[derive(Clone)]
pub(crate) struct Webhooks {
    book: Arc<Mutex<Book>>,
    file: Option<Arc<Path>>,
}

impl Webhooks {
    pub(crate) fn open(file: Option<PathBuf>) -> Result<Self, crate::Failure> {
        let book = match &file {
            Some(path) if path.exists() => serde_json::from_slice(&std::fs::read(path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?,
            _ => Book::default(),
        };
        Ok(Self { book: Arc::new(Mutex::new(book)), file: file.map(Arc::from) })
    }

    /// Changes the book: on the disk first, then in memory, or not at all.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Book) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let Self { book, file } = self.clone();
        // A task of its own: a client that goes away does not stop a change half way.
        let changed = tokio::spawn(async move {
            let mut book = book.lock().await;
            let mut changed = book.clone();
            let result = change(&mut changed)?;
            if let Some(file) = file {
                let text = serde_json::to_vec_pretty(&changed)
                    .map_err(|error| Failure::internal(&error))?;
                let saved = tokio::task::spawn_blocking(move || save(&file, &text)).await;
                saved
                    .map_err(|error| Failure::internal(&error))?
                    .map_err(|error| Failure::internal(&error))?;
            }
            *book = changed;
            Ok(result)
        });
        changed.await.map_err(|error| Failure::internal(&error))?
    }
}

fn save(path: &Path, text: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}

/// Lists the account's webhooks.
#[utoipa::path(get, path = "/v2/webhooks", security(("ApiKey" = [])), tag = "Webhooks",
    responses((status = 200, description = "All of them", body = WebhookListView)))]
pub(crate) async fn list(State(hooks): State<Webhooks>, caller: Identity) -> Json<Value> {
    let book = hooks.book.lock().await;
    let data: Vec<Value> = book.of(&caller).iter().map(Webhook::to_json).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// Shows a webhook.
#[utoipa::path(get, path = "/v2/webhooks/{id}", security(("ApiKey" = [])), tag = "Webhooks",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "The account has no such webhook", body = Told),
    ))]
pub(crate) async fn get(
    State(hooks): State<Webhooks>,
    caller: Identity,
    extract::Path(id): extract::Path<String>,
) -> Result<Json<Value>, Failure> {
    let book = hooks.book.lock().await;
    let hook = book.of(&caller).iter().find(|hook| hook.id == id);
    hook.map(|hook| Json(hook.to_json())).ok_or_else(no_such_webhook)
}

/// Makes a webhook, which belongs to the account.
#[utoipa::path(post, path = "/v2/webhooks", security(("ApiKey" = [])), tag = "Webhooks",
    request_body = NewWebhook,
    responses(
        (status = 201, description = "The webhook", body = WebhookView),
        (status = 400, description = "A field that cannot be meant", body = Told),
        (status = 409, description = "There is one of this name, or there are as many as may be", body = Told),
        (status = 413, description = "The body is too long", body = Told),
        (status = 415, description = "The body is not JSON", body = Told),
    ))]
pub(crate) async fn create(
    State(hooks): State<Webhooks>,
    caller: Identity,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let Json(body) = body?;
    let draft = Webhook::parse(body)?;
    let hook = hooks.change(move |book| book.add(&caller, draft)).await?;
    Ok((StatusCode::CREATED, Json(hook.to_json())))
}

/// Removes a webhook.
#[utoipa::path(delete, path = "/v2/webhooks/{id}", security(("ApiKey" = [])), tag = "Webhooks",
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "The account has no such webhook", body = Told),
    ))]
pub(crate) async fn delete(
    State(hooks): State<Webhooks>,
    caller: Identity,
    extract::Path(id): extract::Path<String>,
) -> Result<StatusCode, Failure> {
    hooks.change(move |book| book.remove(&caller, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_such_webhook() -> Failure {
    Failure::not_found("The account has no such webhook.")
}

impl Book {
    fn of(&self, caller: &Identity) -> &[Webhook] {
        self.accounts.get(caller.account().as_str()).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, caller: &Identity, draft: Webhook) -> Result<Webhook, Failure> {
        let hooks = self.accounts.entry(caller.account().to_string()).or_default();
        if hooks.iter().any(|hook| hook.name == draft.name) {
            return Err(Failure::conflict("name", "The account has a webhook of this name."));
        }
        if hooks.len() >= MOST_PER_ACCOUNT {
            let message = format!("An account may have at most {MOST_PER_ACCOUNT} webhooks.");
            return Err(Failure::request(StatusCode::CONFLICT, message));
        }
        self.next += 1;
        let hook = Webhook { id: format!("WHK-{:06}", self.next), ..draft };
        hooks.push(hook.clone());
        Ok(hook)
    }

    fn remove(&mut self, caller: &Identity, id: &str) -> Result<(), Failure> {
        let hooks = self.accounts.get_mut(caller.account().as_str()).ok_or_else(no_such_webhook)?;
        let place = hooks.iter().position(|hook| hook.id == id).ok_or_else(no_such_webhook)?;
        hooks.remove(place);
        Ok(())
    }
}

impl Webhook {
    /// A webhook that has no id yet.
    fn parse(mut body: Map<String, Value>) -> Result<Self, Failure> {
        let name = text(body.remove("name").as_ref(), "name", 100)?;
        let url = text(body.remove("url").as_ref(), "url", 2_000)?;
        let is_https = |uri: &Uri| {
            uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
        };
        if !url.parse().is_ok_and(|uri| is_https(&uri)) {
            return Err(Failure::invalid("url", "A URL that begins with https://."));
        }
        let events = match body.remove("events") {
            Some(Value::Array(events)) if (1..=100).contains(&events.len()) => events
                .into_iter()
                .map(|event| text(Some(&event), "events", 100))
                .collect::<Result<_, _>>()?,
            _ => return Err(Failure::invalid("events", "An array of 1 to 100 names of events.")),
        };
        if let Some(unknown) = body.keys().next() {
            return Err(Failure::invalid(unknown, "There is no such field."));
        }
        let created_at = format!("{:.3}", Timestamp::now());
        Ok(Self { id: String::new(), name, url, events, created_at })
    }

    fn to_json(&self) -> Value {
        let Self { id, name, url, events, created_at } = self;
        json!({ "object": "webhook", "id": id, "name": name, "url": url, "events": events, "created_at": created_at })
    }
}

fn text(value: Option<&Value>, param: &str, most: usize) -> Result<String, Failure> {
    let text = value.and_then(Value::as_str).filter(|text| {
        (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    });
    text.map(str::to_owned).ok_or_else(|| {
        Failure::invalid(
            param,
            format!("A text of 1 to {most} characters, without control characters."),
        )
    })
}
