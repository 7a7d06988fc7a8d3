//! The example server's `/mcp`, asked by real clients over TLS: the Rust SDK here and in `streams`, the
//! TypeScript SDK in `typescript`, and plain HTTP where something must be sent that no SDK sends.

mod refusals;
mod sessions;
mod streams;
mod typescript;

use std::collections::HashMap;
use std::fs;
use std::sync::Once;

use http::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use rmcp::model::{CallToolRequestParams, CallToolResult, ClientConfig, ProtocolVersion};
use rmcp::service::{ClientInitializeError, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient};
use serde_json::{Value, json};
use tower_api_key::{AccountId, KeyId, KeyManager, SqliteStore};

use crate::server::Server;
use crate::servers::folder::Folder;
use crate::support::{account, get_tls, named, text};

const TOOLS: [&str; 5] = ["create_webhook", "list_bookings", "list_webhooks", "test_key", "wait"];

/// A running server, and the keys in its store.
struct Fixture {
    folder: Folder,
    server: Server,
    manager: KeyManager,
    http: reqwest::Client,
    admin: AccountId,
}

/// A key that works, and what to delete it by.
struct Key {
    text: String,
    id: KeyId,
}

/// Where a client puts its key.
#[derive(Clone, Copy, Debug)]
enum Place {
    ApiKey,
    Bearer,
}

type Client = RunningService<RoleClient, ClientConfig>;

impl Fixture {
    async fn start(more: &[&str]) -> Self {
        let folder = Folder::new();
        let server = Server::start(folder.path(), more);
        let store = SqliteStore::open(folder.path().join("data/keys.db")).await.unwrap();
        let manager = KeyManager::new(store, "acme".parse().unwrap());
        let http = http_client(&folder);
        Self { folder, server, manager, http, admin: account("admin@example.com") }
    }

    fn uri(&self) -> String {
        format!("https://{}/mcp", self.server.https)
    }

    async fn key_of(&self, owner: &AccountId) -> Key {
        let issued = self.manager.create(owner, named("MCP client")).await.unwrap();
        let id = issued.record().id.clone();
        Key { text: text(issued), id }
    }

    async fn delete(&self, key: &Key) {
        self.manager.delete(&self.admin, &key.id).await.unwrap();
    }

    /// A client of the SDK that has said its hello.
    async fn connect(
        &self,
        place: Place,
        key: &str,
        lifecycle: ClientLifecycleMode,
    ) -> Result<Client, ClientInitializeError> {
        let config = StreamableHttpClientTransportConfig::with_uri(self.uri());
        let config = match place {
            Place::ApiKey => config.custom_headers(api_key(key)),
            Place::Bearer => config.auth_header(key),
        };
        let transport = StreamableHttpClientTransport::with_client(self.http.clone(), config);
        ClientConfig::default().serve_with_lifecycle(transport, lifecycle).await
    }

    fn request(&self, method: Method, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.uri());
        let request = request.header("Accept", "application/json, text/event-stream");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// What a message is answered.
    async fn post(&self, headers: &[(&str, &str)], message: &str) -> (StatusCode, String) {
        let request =
            self.request(Method::POST, headers).header("Content-Type", "application/json");
        let response = request.body(message.to_owned()).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    /// A new session.
    async fn session(&self, key: &str) -> String {
        let request = self.request(Method::POST, &[("API-Key", key)]);
        let response = request.json(&hello()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let headers = [("API-Key", key), ("Mcp-Session-Id", &id)];
        assert_eq!(self.post(&headers, ready).await.0, 202);
        id
    }

    /// The status of a call in a session.
    async fn call(&self, key: &str, session: &str) -> StatusCode {
        let headers = [("API-Key", key), ("Mcp-Session-Id", session)];
        self.post(&headers, &tool_call("test_key", &json!({})).to_string()).await.0
    }
}

/// A client that trusts the server whose data are in this folder.
pub(crate) fn http_client(folder: &Folder) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let pem = fs::read(folder.path().join("data/cert.pem")).unwrap();
    let trusted = reqwest::Certificate::from_pem(&pem).unwrap();
    reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap()
}

fn api_key(key: &str) -> HashMap<HeaderName, HeaderValue> {
    [(HeaderName::from_static("api-key"), HeaderValue::from_str(key).unwrap())].into()
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

fn hello() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client
    } })
}

fn tool_call(name: &str, arguments: &Value) -> Value {
    let params = json!({ "name": name, "arguments": arguments, "_meta": { "progressToken": 1 } });
    json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params })
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

#[tokio::test]
async fn the_rust_sdk_initialises_lists_and_calls_with_either_header() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    for (place, lifecycle, version) in [
        (Place::ApiKey, ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25),
        (Place::Bearer, ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25),
        (Place::ApiKey, discover(), ProtocolVersion::V_2026_07_28),
        (Place::Bearer, discover(), ProtocolVersion::V_2026_07_28),
    ] {
        let client = fixture.connect(place, &key, lifecycle).await.unwrap();
        let server = client.peer_info().unwrap();
        assert_eq!(server.protocol_version, version);
        let tools = client.list_all_tools().await.unwrap();
        assert_eq!(tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), TOOLS);
        for tool in tools {
            assert_eq!(tool.input_schema["type"], "object");
            assert!(tool.description.is_some() && tool.annotations.is_some(), "{}", tool.name);
        }
        let said = call(&client, "test_key", json!({})).await.structured_content.unwrap();
        assert_eq!(said["message"], "The API key is valid for account: admin@example.com");
        client.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn tools_do_what_the_api_does_and_say_what_is_wrong() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let header = format!("API-Key: {key}\r\n");
    let api = async |path: &str| -> Value {
        let answer = get_tls(fixture.server.https, path, &header).await;
        serde_json::from_str(&answer.body).unwrap()
    };
    let lifecycle = ClientLifecycleMode::Initialize;
    let client = fixture.connect(Place::ApiKey, &key, lifecycle).await.unwrap();

    let page = json!({ "limit": 3, "after": "BKNG-000007", "last_updated_time.gt": "2026-01-31T15:00:00Z" });
    let listed = call(&client, "list_bookings", page).await.structured_content.unwrap();
    let path = "/v2/bookings?limit=3&after=BKNG-000007&last_updated_time.gt=2026-01-31T15:00:00Z";
    assert_eq!(listed["data"], api(path).await["data"]);
    assert_eq!(listed["next"], listed["data"][2]["id"]);
    let last = call(&client, "list_bookings", json!({ "after": "BKNG-000119" })).await;
    assert_eq!(last.structured_content.unwrap().get("next"), None);

    let hook = json!({ "name": "CRM", "url": "https://example.com/hook", "events": ["x"] });
    let made = call(&client, "create_webhook", hook.clone()).await.structured_content.unwrap();
    assert_eq!(api("/v2/webhooks").await["data"], json!([made]));
    let hooks = call(&client, "list_webhooks", json!({})).await.structured_content.unwrap();
    assert_eq!(hooks["data"], json!([made]));

    for (tool, arguments, param) in [
        ("create_webhook", hook, "name"),
        ("create_webhook", json!({}), "name"),
        ("create_webhook", json!({ "name": "x", "url": "http://x/", "events": ["x"] }), "url"),
        ("list_bookings", json!({ "limit": 0 }), "limit"),
        ("list_bookings", json!({ "limit": 101 }), "limit"),
        ("list_bookings", json!({ "limit": "ten" }), "limit"),
        ("list_bookings", json!({ "limt": 1 }), "limt"),
        ("list_bookings", json!({ "after": "x" }), "after"),
        ("list_bookings", json!({ "last_updated_time.gt": "x" }), "last_updated_time.gt"),
        ("wait", json!({ "seconds": 0 }), "seconds"),
        ("wait", json!({ "seconds": 301 }), "seconds"),
        ("wait", json!({}), "seconds"),
    ] {
        let answer = call(&client, tool, arguments.clone()).await;
        assert_eq!(answer.is_error, Some(true), "{tool} {arguments}");
        let said = format!("{:?}", answer.content);
        // A type that is wrong is told by the type, the rest by name.
        assert!(said.contains(param) || said.contains("invalid type"), "{arguments}: {said}");
    }
    let unknown = client.call_tool(CallToolRequestParams::new("delete_account")).await;
    assert!(unknown.unwrap_err().to_string().contains("tool not found"));
}

#[tokio::test]
async fn a_key_is_in_no_log_no_answer_and_nothing_that_a_tool_sees() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let mut answers = String::new();
    for place in [Place::ApiKey, Place::Bearer] {
        for lifecycle in [ClientLifecycleMode::Initialize, discover()] {
            let client = fixture.connect(place, &key, lifecycle).await.unwrap();
            for tool in TOOLS {
                let arguments = match tool {
                    "wait" => json!({ "seconds": 1 }),
                    "create_webhook" => {
                        json!({ "name": format!("{place:?}"), "url": "https://x/", "events": ["x"] })
                    }
                    _ => json!({}),
                };
                let answer = call(&client, tool, arguments).await;
                answers += &serde_json::to_string(&answer).unwrap();
            }
            client.cancel().await.unwrap();
        }
    }
    let session = fixture.session(&key).await;
    let bearer = format!("bearer {key}");
    for headers in [
        &[("API-Key", &*key)][..],
        &[("Authorization", &*bearer)],
        &[("API-Key", &*key), ("Mcp-Session-Id", &*session)],
        &[("API-Key", &*key), ("Authorization", &*bearer)],
        &[("API-Key", &*key), ("Origin", "https://evil.example")],
    ] {
        for body in [&*tool_call("test_key", &json!({})).to_string(), "{", "[]"] {
            answers += &fixture.post(headers, body).await.1;
        }
    }
    fixture.server.program.signal("-TERM");
    let (code, stdout, stderr) = fixture.server.program.end();
    assert_eq!(code, Some(0), "{stderr}");
    let seen: Vec<&str> = stderr.lines().filter(|line| line.contains("a tool is called")).collect();
    assert!(seen.len() >= 12, "{}", seen.len());
    for line in seen {
        let line = line.to_lowercase();
        assert!(
            line.contains("accept") && !line.contains("api-key") && !line.contains("authorization"),
            "{line}"
        );
    }
    let secret = &key[key.len() / 2..];
    for (name, text) in [("answers", &answers), ("stdout", &stdout), ("stderr", &stderr)] {
        assert!(text.len() > 50 && !text.contains(secret), "{name}");
    }
}
