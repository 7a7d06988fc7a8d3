//! When streams end: with their key, with the server, with a store that is gone; and not before.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rmcp::ClientLifecycleMode;
use rmcp::model::{CallToolRequestParams, ClientJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient as _, StreamableHttpError, StreamableHttpPostResponse,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_api_key::{KeyManager, RedisStore};

use super::{Fixture, Key, Place, api_key, tool_call};
use crate::support::{Answer, BUSY, exchange, named, soon, text, tls};

/// What the server promises.
const PROMISED: Duration = Duration::from_secs(2);

/// Something that the server is still answering, and when that ends.
struct Open(JoinHandle<Instant>);

impl Open {
    fn new(end: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            end.await;
            Instant::now()
        }))
    }

    fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    async fn end(self) -> Instant {
        soon(self.0).await.unwrap()
    }

    async fn ends_within(self, limit: Duration, since: Instant) {
        let took = self.end().await - since;
        assert!(took <= limit + BUSY, "{took:?}");
    }
}

impl Fixture {
    /// The SDK's standing stream, once it has said its first word.
    async fn standing(&self, key: &str, session: &str) -> Open {
        let stream =
            self.http.get_stream(self.uri().into(), Some(session.into()), None, None, api_key(key));
        let mut stream = stream.await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
        Open::new(async move { while stream.next().await.is_some() {} })
    }

    /// A call of the SDK that takes a minute, once it is under way.
    async fn long_call(&self, key: &str, session: &str) -> Open {
        let call: ClientJsonRpcMessage =
            serde_json::from_value(tool_call("wait", &json!({ "seconds": 60 }))).unwrap();
        let posted = self.http.post_message(
            self.uri().into(),
            call,
            Some(session.into()),
            Some(key.into()),
            HashMap::new(),
        );
        let StreamableHttpPostResponse::Sse(mut stream, _) = posted.await.unwrap() else {
            panic!("not a stream");
        };
        let (progress, begun) = oneshot::channel();
        let open = Open::new(async move {
            let mut progress = Some(progress);
            while let Some(event) = stream.next().await {
                let data = event.unwrap().data.unwrap_or_default();
                assert!(!data.contains("result"), "it had no time to finish");
                if data.contains("notifications/progress")
                    && let Some(begun) = progress.take()
                {
                    begun.send(()).unwrap();
                }
            }
        });
        soon(begun).await.unwrap();
        open
    }

    /// A call without a session, of the protocol that has none, which the server has let in; nothing of its
    /// answer has come yet.
    async fn long_call_without_session(&self, key: &str) -> (Open, oneshot::Receiver<Answer>) {
        let call = stateless("wait", &json!({ "seconds": 60 })).to_string();
        let address = self.server.https;
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAPI-Key: {key}\r\n\
             MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: wait\r\n\
             Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            call.len()
        );
        let mut socket = tls(address).await;
        socket.write_all(head.as_bytes()).await.unwrap();
        // Said when somebody behind the layer wants to read the body.
        let mut goes_on = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        soon(socket.read_exact(&mut goes_on)).await.unwrap();
        assert_eq!(&goes_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        let (said, answer) = oneshot::channel();
        let open = Open::new(async move {
            let _ = said.send(exchange(socket, call.as_bytes()).await);
        });
        (open, answer)
    }
}

fn stateless(tool: &str, arguments: &Value) -> Value {
    let mut call = tool_call(tool, arguments);
    call["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_ends_what_is_open_and_no_other_key_does() {
    let fixture = Fixture::start(&[]).await;
    let (deleted, other) =
        (fixture.key_of(&fixture.admin).await, fixture.key_of(&fixture.admin).await);
    let session = fixture.session(&deleted.text).await;
    let (pending, answer) = fixture.long_call_without_session(&deleted.text).await;
    let ending = [
        fixture.standing(&deleted.text, &session).await,
        fixture.standing(&deleted.text, &session).await,
        fixture.long_call(&deleted.text, &session).await,
        pending,
    ];
    // In the same session, which is the account's.
    let staying = [
        fixture.standing(&other.text, &session).await,
        fixture.long_call(&other.text, &session).await,
    ];
    assert!(!ending.iter().any(Open::has_ended));

    fixture.delete(&deleted).await;
    let gone = Instant::now();
    for open in ending {
        open.ends_within(PROMISED, gone).await;
    }
    let Answer { status, body, .. } = answer.await.unwrap();
    assert!(status == 401 && body.contains("Invalid API key."), "{status} {body}");
    let again = fixture.http.get_stream(
        fixture.uri().into(),
        Some(session.as_str().into()),
        None,
        Some(deleted.text.clone()),
        HashMap::new(),
    );
    assert!(matches!(again.await.err(), Some(StreamableHttpError::AuthRequired(_))));
    assert_eq!(fixture.call(&deleted.text, &session).await, 401);
    assert_eq!(fixture.call(&other.text, &session).await, 200);
    assert!(!staying.iter().any(Open::has_ended));

    // A new secret ends the old one too.
    let _ = fixture.manager.regenerate(&fixture.admin, &other.id).await.unwrap();
    let gone = Instant::now();
    for open in staying {
        open.ends_within(PROMISED, gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_ends_its_streams() {
    let fixture = Fixture::start(&[]).await;
    let old = fixture.key_of(&fixture.admin).await;
    let session = fixture.session(&old.text).await;
    let open = fixture.standing(&old.text, &session).await;
    let grace = Duration::from_secs(2);
    let _ = fixture.manager.rotate(&fixture.admin, &old.id, grace).await.unwrap();
    let rotated = Instant::now();
    let lived = open.end().await - rotated;
    // The expiry is in whole milliseconds, and was counted from before the call returned.
    assert!(lived > grace / 2 && lived <= grace + PROMISED + BUSY, "{lived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_client_hears_that_its_key_is_gone() {
    for lifecycle in [ClientLifecycleMode::Initialize, super::discover()] {
        let fixture = Fixture::start(&[]).await;
        let key = fixture.key_of(&fixture.admin).await;
        let client = fixture.connect(Place::Bearer, &key.text, lifecycle).await.unwrap();
        let arguments = json!({ "seconds": 60 }).as_object().unwrap().clone();
        let call = client.call_tool(CallToolRequestParams::new("wait").with_arguments(arguments));
        let delete = async { fixture.delete(&key).await };
        let (answer, ()) = Box::pin(soon(async { tokio::join!(call, delete) })).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_ends_streams_after_10_s_and_not_at_once() {
    let Some(redis) = crate::servers::Redis::start(&crate::servers::Redis::DURABLE) else { return };
    let url = redis.fresh_database();
    let mut fixture = Fixture::start(&["--store", &url]).await;
    let store = RedisStore::connect(&url).await.unwrap();
    fixture.manager = KeyManager::new(store, "acme".parse().unwrap());
    let issued = fixture.manager.create(&fixture.admin, named("x")).await.unwrap();
    let id = issued.record().id.clone();
    let key = Key { text: text(issued), id };
    let session = fixture.session(&key.text).await;

    let open = fixture.standing(&key.text, &session).await;
    let (pending, answer) = fixture.long_call_without_session(&key.text).await;
    redis.kill();
    let gone = Instant::now();
    for open in [open, pending] {
        let outlived = open.end().await - gone;
        assert!((8..=12).contains(&outlived.as_secs()), "{outlived:?}");
    }
    let Answer { status, body, .. } = answer.await.unwrap();
    assert!(status == 503 && body.contains("could not be checked"), "never a 401: {status} {body}");
    assert_eq!(fixture.call(&key.text, &session).await, 503);

    // An outage that is shorter ends nothing, and what was deleted is found out after it.
    redis.restart();
    while fixture.call(&key.text, &session).await != 200 {}
    let open = fixture.standing(&key.text, &session).await;
    redis.kill();
    assert_eq!(fixture.call(&key.text, &session).await, 503);
    redis.restart();
    while fixture.call(&key.text, &session).await != 200 {}
    assert!(!open.has_ended());
    fixture.delete(&key).await;
    open.ends_within(PROMISED, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn term_ends_standing_streams_at_once_and_lets_calls_finish() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let session = fixture.session(&key).await;
    let open = fixture.standing(&key, &session).await;
    let client =
        fixture.connect(Place::ApiKey, &key, ClientLifecycleMode::Initialize).await.unwrap();
    let call = async {
        let answer = super::call(&client, "wait", json!({ "seconds": 3 })).await;
        assert_eq!(answer.structured_content.unwrap()["message"], "Waited 3 s.");
        Instant::now()
    };
    let term = async {
        // The call is under way when an answer has come that was asked for after it.
        assert_eq!(fixture.call(&key, &session).await, 200);
        fixture.server.program.signal("-TERM");
        let signalled = Instant::now();
        open.ends_within(Duration::from_secs(1), signalled).await;
        signalled
    };
    let (finished, signalled) = Box::pin(soon(async { tokio::join!(call, term) })).await;
    assert!(finished > signalled, "the call was under way");
    let (code, _, stderr) = fixture.server.program.end();
    assert_eq!(code, Some(0), "{stderr}");
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(8), "not held until the last second: {took:?}");
}
