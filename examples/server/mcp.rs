//! `/mcp`: the account's bookings and webhooks for MCP clients, over streamable HTTP. Checks no key itself:
//! it is behind the layer, as everything is, which takes `Authorization: Bearer` too there.
//!
//! * Every request needs a live key, also within a session. A session is its account's, not its key's:
//!   another key of the account goes on with it, so that a rotation breaks none; for any other account it
//!   is 404. One in which nothing was sent for [`IDLE`] is ended.
//! * **A deleted key ends its streams within 2 s**, and the calls that it had not yet an answer for:
//!   [`KeyEnds`] says when. Expiry and regeneration do the same. When the store has not answered for 10 s,
//!   they end too, within 2 s more.
//! * `Host` must be one of this server's addresses, `localhost` or a `--public-host`; `Origin`, where there
//!   is one, the https origin of one of them: a web page must not reach this server through a name of its
//!   own. 403 otherwise.
//! * Standing streams end at SIGTERM; calls under way may finish.

mod names;
mod sessions;
mod tools;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_api_key::ends::Ended;
use tower_api_key::{EndsSettings, Identity, KeyEnd, KeyEnds, KeyRegistry};

pub(crate) use self::names::{Names, PublicHost};
use self::sessions::Sessions;
use self::tools::Tools;
use crate::failure::Failure;
use crate::webhooks::Webhooks;

/// How long a session lives in which nothing is sent.
const IDLE: Duration = Duration::from_mins(30);

const SESSION: &str = "mcp-session-id";
const CHALLENGES: [&str; 2] = [r#"ApiKey realm="api", header="API-Key""#, r#"Bearer realm="api""#];
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The MCP server.
#[derive(Clone)]
pub(crate) struct Mcp {
    service: StreamableHttpService<Tools, LocalSessionManager>,
    sessions: Arc<Sessions>,
    ends: KeyEnds,
    closed: watch::Sender<bool>,
}

impl Mcp {
    pub(crate) fn new(hooks: &Webhooks, store: Arc<dyn KeyRegistry>, names: &Names) -> Self {
        let mut manager = LocalSessionManager::default();
        manager.session_config.keep_alive = Some(IDLE);
        let manager = Arc::new(manager);
        let tools = Tools::new(hooks.clone());
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(names.hosts())
            .with_allowed_origins(names.origins())
            .enforce_origin_validation();
        Self {
            service: StreamableHttpService::new(
                move || Ok(tools.clone()),
                Arc::clone(&manager),
                config,
            ),
            sessions: Arc::new(Sessions::new(manager)),
            ends: KeyEnds::watch(store, EndsSettings::default()),
            closed: watch::Sender::new(false),
        }
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().route("/mcp", any(serve)).with_state(self.clone())
    }

    /// Ends the streams that would never end by themselves.
    pub(crate) fn end_standing_streams(&self) {
        self.closed.send_replace(true);
    }

    async fn answer(&self, caller: &Identity, request: Request) -> Result<Response, Response> {
        let session = self.session_of(caller, request.headers()).map_err(into_response)?;
        let (parts, body) = request.into_parts();
        let whole = Request::from_parts(parts.clone(), body);
        let sent = Bytes::from_request(whole, &()).await.map_err(into_response)?;
        let request = Request::from_parts(parts, Body::from(sent.clone()));
        let response = match &session {
            None if is_initialise(&sent) => self.begin(caller, request).await?,
            _ => self.service.handle(request).await.map(Body::new),
        };
        match (response.status(), session) {
            // The SDK says so to a body that it cannot read, too.
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, _) => malformed(&sent).map_or(Ok(response), Err),
            // The session was ended while this was on its way in.
            (StatusCode::INTERNAL_SERVER_ERROR, Some(id)) if !self.sessions.exists(&id).await => {
                Err(into_response(no_such_session()))
            }
            _ => Ok(response),
        }
    }

    /// Lets a session begin. A task of its own: a client that goes away leaves none behind that is nobody's.
    async fn begin(&self, caller: &Identity, request: Request) -> Result<Response, Response> {
        let (mcp, account) = (self.clone(), caller.account().clone());
        let begun = tokio::spawn(async move {
            let response = mcp.service.handle(request).await;
            if let Some(id) = response.headers().get(SESSION).and_then(|id| id.to_str().ok()) {
                mcp.sessions.add(id, account).await;
            }
            response.map(Body::new)
        });
        begun.await.map_err(|error| into_response(Failure::internal(&error)))
    }

    /// The session that the request says it belongs to, if it is the caller's.
    fn session_of(
        &self,
        caller: &Identity,
        headers: &HeaderMap,
    ) -> Result<Option<String>, Failure> {
        let mut lines = headers.get_all(SESSION).iter();
        let Some(line) = lines.next() else { return Ok(None) };
        if lines.next().is_some() {
            let message = "The Mcp-Session-Id header was given more than once.";
            return Err(Failure::request(StatusCode::BAD_REQUEST, message));
        }
        let id = line.to_str().ok().filter(|id| self.sessions.belongs_to(id, caller.account()));
        id.map(|id| Some(id.to_owned())).ok_or_else(no_such_session)
    }
}

async fn serve(State(mcp): State<Mcp>, caller: Identity, request: Request) -> Response {
    let mut ended = mcp.ends.of(&caller);
    // Nobody waits for an answer to a GET: what it opens stands until somebody ends it.
    let closed = (request.method() == Method::GET).then(|| mcp.closed.subscribe());
    let response = tokio::select! {
        response = mcp.answer(&caller, request) => response.unwrap_or_else(|refusal| refusal),
        end = &mut ended => return cut_off(end),
    };
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream")) {
        let mut response = response.map(|body| until_ended(body, ended, closed));
        response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        response
    } else {
        response
    }
}

/// A body that ends with its key, and, if it is a standing stream, with the server.
fn until_ended(body: Body, ended: Ended, closed: Option<watch::Receiver<bool>>) -> Body {
    let closing = async move {
        match closed {
            Some(mut closed) => drop(closed.wait_for(|closed| *closed).await),
            None => pending().await,
        }
    };
    let end = async move {
        tokio::select! {
            _ = ended => {}
            () = closing => {}
        }
    };
    Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
}

/// What the layer says, to a call that was under way.
fn cut_off(end: KeyEnd) -> Response {
    let (failure, name, values): (_, _, &[&str]) = match end {
        KeyEnd::Invalid => (Failure::invalid_key(), header::WWW_AUTHENTICATE, &CHALLENGES),
        _ => (Failure::unchecked_key(), header::RETRY_AFTER, &["1"]),
    };
    let mut response = failure.into_response();
    for value in values {
        response.headers_mut().append(&name, HeaderValue::from_static(value));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

fn is_initialise(body: &[u8]) -> bool {
    use rmcp::model::{ClientRequest, JsonRpcMessage, JsonRpcRequest};
    let message: Result<ClientJsonRpcMessage, _> = serde_json::from_slice(body);
    let initialise = |request: &JsonRpcRequest<_>| {
        matches!(request.request, ClientRequest::InitializeRequest(_))
    };
    matches!(message, Ok(JsonRpcMessage::Request(request)) if initialise(&request))
}

/// The refusal of a body that is not one message of JSON-RPC, in JSON-RPC.
fn malformed(body: &[u8]) -> Option<Response> {
    if serde_json::from_slice::<ClientJsonRpcMessage>(body).is_ok() {
        return None;
    }
    let (code, message, id) = match serde_json::from_slice::<Value>(body) {
        Err(_) => (-32700, "Parse error: the body is not JSON.", Value::Null),
        Ok(mut value) => {
            let id = value.get_mut("id").map(Value::take);
            let id = id.filter(|id| id.is_string() || id.is_i64()).unwrap_or_default();
            (-32600, "Invalid request: the body is not one JSON-RPC 2.0 message.", id)
        }
    };
    let error = json!({ "code": code, "message": message });
    let answer = Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }));
    Some((StatusCode::BAD_REQUEST, answer).into_response())
}

fn no_such_session() -> Failure {
    Failure::not_found("The account has no such MCP session: begin another one.")
}

fn into_response(refusal: impl IntoResponse) -> Response {
    refusal.into_response()
}
