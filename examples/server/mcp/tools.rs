//! The tools. They learn who calls from the layer's [`Identity`]; the key is not in what they are given.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::request::Parts;
use rmcp::handler::server::tool::Extension;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, JsonObject, ProgressNotificationParam};
use rmcp::schemars::{self, JsonSchema};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_api_key::Identity;

use crate::failure::Failure;
use crate::webhooks::Webhooks;
use crate::{bookings, webhooks};

#[derive(Clone)]
pub(super) struct Tools {
    hooks: Webhooks,
}

/// Which bookings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// How many at most.
    #[schemars(range(min = 1, max = 100), extend("default" = 10))]
    limit: Option<u32>,
    /// Only those after this one: `next` of the page before.
    after: Option<String>,
    /// Only those that were updated after this time, such as 2026-01-31T09:30:00.000Z.
    #[serde(rename = "last_updated_time.gt")]
    updated_after: Option<String>,
}

/// A webhook.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "describes the arguments to clients; `webhooks` reads them")]
struct Webhook {
    /// Unique in the account.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// Where events are sent; https only.
    #[schemars(length(max = 2000), regex(pattern = "^https://"))]
    url: String,
    /// Which events.
    #[schemars(length(min = 1, max = 100))]
    events: Vec<String>,
}

/// How long to wait.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// In seconds.
    #[schemars(range(min = 1, max = 300))]
    seconds: u16,
}

#[tool_router]
impl Tools {
    pub(super) fn new(hooks: Webhooks) -> Self {
        Self { hooks }
    }

    #[tool(
        description = "Says for which account the API key is valid.",
        annotations(title = "Test the API key", read_only_hint = true, open_world_hint = false)
    )]
    async fn test_key(&self, Extension(request): Extension<Parts>) -> Answer {
        let caller = caller(&request)?;
        let message = format!("The API key is valid for account: {}", caller.account());
        Ok(CallToolResult::structured(json!({ "message": message })))
    }

    #[tool(
        description = "Lists the account's bookings, ordered by id, a page at a time. `next` is there while there are more: pass it as `after`.",
        annotations(title = "List bookings", read_only_hint = true, open_world_hint = false)
    )]
    async fn list_bookings(&self, Parameters(wanted): Parameters<Wanted>) -> Answer {
        let limit = wanted.limit.map(|limit| ("limit", limit.to_string()));
        let after = wanted.after.map(|id| ("after", id));
        let updated_after = wanted.updated_after.map(|time| ("last_updated_time.gt", time));
        let query = [limit, after, updated_after].into_iter().flatten();
        let found = bookings::find(query.map(|(name, value)| (name.to_owned(), value)));
        Ok(result(found.map(|found| {
            let mut list = json!({ "object": "list", "data": found.data });
            if let Some(next) = found.next {
                list["next"] = next.into();
            }
            list
        })))
    }

    #[tool(
        description = "Lists the account's webhooks.",
        annotations(title = "List webhooks", read_only_hint = true, open_world_hint = false)
    )]
    async fn list_webhooks(&self, Extension(request): Extension<Parts>) -> Answer {
        let caller = caller(&request)?;
        let Json(list) = webhooks::list(State(self.hooks.clone()), caller).await;
        Ok(CallToolResult::structured(list))
    }

    #[tool(
        description = "Makes a webhook of the account: its events are then sent to the URL.",
        input_schema = rmcp::handler::server::tool::schema_for_type::<Webhook>(),
        annotations(title = "Create a webhook", destructive_hint = false, open_world_hint = false)
    )]
    async fn create_webhook(
        &self,
        Extension(request): Extension<Parts>,
        fields: JsonObject,
    ) -> Answer {
        let caller = caller(&request)?;
        let made = webhooks::create(State(self.hooks.clone()), caller, Ok(Json(fields))).await;
        Ok(result(made.map(|(_, Json(made))| made)))
    }

    #[tool(
        description = "Waits, with a progress notification every second if the client asks for progress: a long call, to see how calls and streams end.",
        annotations(title = "Wait", read_only_hint = true, open_world_hint = false)
    )]
    async fn wait(
        &self,
        Parameters(Wait { seconds }): Parameters<Wait>,
        context: RequestContext<RoleServer>,
    ) -> Answer {
        if !(1..=300).contains(&seconds) {
            let failure = Failure::invalid("seconds", "A number from 1 to 300.");
            return Ok(result(Err(failure)));
        }
        for second in 1..=seconds {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = context.ct.cancelled() => break,
            }
            if let Some(token) = context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, second.into());
                // A client that no longer listens is waited for all the same: it may come back.
                let _ = context.peer.notify_progress(progress.with_total(seconds.into())).await;
            }
        }
        Ok(CallToolResult::structured(json!({ "message": format!("Waited {seconds} s.") })))
    }
}

#[tool_handler(
    name = "tower-api-key-example",
    instructions = "The bookings and webhooks of one account: the one whose API key the client sends."
)]
impl ServerHandler for Tools {}

/// What a tool answers, or why the call itself was impossible.
type Answer = Result<CallToolResult, ErrorData>;

/// A failure is a result too, so that a model reads what was wrong and tries again.
fn result(outcome: Result<Value, Failure>) -> CallToolResult {
    match outcome {
        Ok(value) => CallToolResult::structured(value),
        Err(failure) => CallToolResult::structured_error(failure.to_json()),
    }
}

fn caller(request: &Parts) -> Result<Identity, ErrorData> {
    tracing::trace!(headers = ?request.headers.keys().collect::<Vec<_>>(), "a tool is called");
    let caller = request.extensions.get().cloned();
    caller.ok_or_else(|| ErrorData::internal_error("This server is not behind its layer.", None))
}
