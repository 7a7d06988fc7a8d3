//! What is refused at `/mcp`, and how: keys, places for keys, names, bodies.

use reqwest::Method;
use rmcp::ClientLifecycleMode;
use serde_json::{Value, json};

use super::{Fixture, Key, Place, discover, hello, tool_call};
use crate::support::{get, get_tls};

#[tokio::test]
async fn refused_without_a_key_and_with_two() {
    let fixture = Fixture::start(&[]).await;
    let Key { text: key, .. } = fixture.key_of(&fixture.admin).await;
    let hello = hello().to_string();
    let bearer = format!("Bearer {key}");
    for headers in [
        &[][..],
        &[("API-Key", &*key), ("Authorization", &*bearer)],
        &[("API-Key", &*key), ("API-Key", &*key)],
        &[("Authorization", &*bearer), ("Authorization", &*bearer)],
        &[("API-Key", "acme_live_wrong")],
        &[("Authorization", "Bearer acme_live_wrong")],
        &[("Authorization", "Bearer")],
        &[("X-API-Key", &*key)],
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE, Method::OPTIONS, Method::HEAD] {
            let request = fixture.request(method, headers).body(hello.clone());
            let response = request.header("Content-Type", "application/json").send().await.unwrap();
            assert_eq!(response.status(), 401, "{headers:?}");
            let challenges = response.headers().get_all("WWW-Authenticate").iter();
            let challenges: Vec<_> = challenges.map(|line| line.to_str().unwrap()).collect();
            assert_eq!(
                challenges,
                [r#"ApiKey realm="api", header="API-Key""#, r#"Bearer realm="api""#]
            );
        }
    }
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let header = format!("{scheme} {key}");
        assert_eq!(fixture.post(&[("Authorization", &header)], &hello).await.0, 200, "{scheme}");
    }
    for wrong in ["", "acme_live_wrong"] {
        for lifecycle in [ClientLifecycleMode::Initialize, discover()] {
            let refused = fixture.connect(Place::Bearer, wrong, lifecycle).await.unwrap_err();
            assert!(format!("{refused:?}").contains("AuthRequired"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn bearer_is_for_mcp_only_and_no_path_beside_it_is_open() {
    let fixture = Fixture::start(&[]).await;
    let Key { text: key, .. } = fixture.key_of(&fixture.admin).await;
    let (header, bearer) =
        (format!("API-Key: {key}\r\n"), format!("Authorization: Bearer {key}\r\n"));
    for path in ["/v2/test", "/v2/bookings", "/mcp/", "/mcp/x", "/MCP", "/%6dcp", "//mcp", "/"] {
        for refused in [&bearer, ""] {
            assert_eq!(get_tls(fixture.server.https, path, refused).await.status, 401, "{path}");
        }
    }
    for path in ["/mcp/", "/mcp/x", "/MCP", "//mcp"] {
        assert_eq!(get_tls(fixture.server.https, path, &header).await.status, 404, "{path}");
    }
    for header in [header, bearer] {
        let plain = get(fixture.server.http, "/mcp", &header).await;
        assert!(plain.status == 401 && plain.body.contains("over HTTPS"), "{plain:?}");
    }
}

#[tokio::test]
async fn what_is_no_json_rpc_is_a_4xx_that_says_so() {
    let fixture = Fixture::start(&[]).await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let session = fixture.session(&key).await;
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":"{}"}}"#,
        "x".repeat(2_097_200)
    );
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("\u{0}", -32700),
        (&*"[".repeat(10_000), -32700),
        ("[]", -32600),
        ("{}", -32600),
        ("null", -32600),
        (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, -32600),
        (r#"{"id":7,"method":"ping"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
    ] {
        for headers in
            [&[("API-Key", &*key)][..], &[("API-Key", &*key), ("Mcp-Session-Id", &*session)]]
        {
            let (status, answer) = fixture.post(headers, body).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(
                (status.as_u16(), &answer["error"]["code"]),
                (400, &json!(code)),
                "{body:.60}"
            );
            assert!(answer.get("id").is_some() && answer["jsonrpc"] == "2.0", "{answer}");
        }
    }
    let headers = [("API-Key", &*key), ("Mcp-Session-Id", &*session)];
    assert_eq!(fixture.post(&headers, &long).await.0, 413);
    for message in [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "nothing/like/it" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": 7 }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": 7 } }),
        json!({ "jsonrpc": "2.0", "id": "x", "method": "initialize" }),
        json!({ "jsonrpc": "2.0", "method": "nothing/like/it" }),
        json!({ "jsonrpc": "2.0", "id": 99, "result": {} }),
        json!({ "jsonrpc": "2.0", "id": 99, "error": { "code": 1, "message": "x" } }),
    ] {
        for headers in [&headers[..1], &headers] {
            let (status, answer) = fixture.post(headers, &message.to_string()).await;
            assert!(
                !status.is_server_error() && !answer.contains("-32603"),
                "{message}: {status} {answer}"
            );
            let is_request = message.get("method").is_some() && message.get("id").is_some();
            assert!(
                !is_request || answer.contains("error") || status == 400,
                "{message}: {answer}"
            );
        }
    }
    for (name, value, status) in [
        ("Content-Type", "text/plain", 415),
        ("Accept", "application/json", 406),
        ("MCP-Protocol-Version", "1999-01-01", 400),
    ] {
        let request = fixture.http.post(fixture.uri()).header("API-Key", &key);
        let standard = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
        ];
        let standard = standard.into_iter().filter(|(header, _)| *header != name);
        let request = standard.fold(request, |request, (name, value)| request.header(name, value));
        let request = request.header("Mcp-Session-Id", &session).header(name, value);
        let answer =
            request.body(tool_call("test_key", &json!({})).to_string()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}");
    }
    assert_eq!(fixture.call(&key, &session).await, 200, "and it serves on");
}

#[tokio::test]
async fn host_and_origin_are_checked() {
    let fixture = Fixture::start(&[
        "--public-host",
        "api.example.com",
        "--public-host",
        "mcp.example.com:8443",
    ])
    .await;
    let key = fixture.key_of(&fixture.admin).await.text;
    let port = fixture.server.https.port();
    let ask = async |name: &str, value: &str| {
        let (status, _) =
            fixture.post(&[("API-Key", &key), (name, value)], &hello().to_string()).await;
        status.as_u16()
    };
    for host in [
        "localhost",
        "localhost:1",
        "LOCALHOST",
        "127.0.0.1",
        "[::1]:9",
        "api.example.com",
        "api.example.com:1",
        "mcp.example.com:8443",
    ] {
        assert_eq!(ask("Host", host).await, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "mcp.example.com",
        "evil.api.example.com",
        "127.0.0.2",
        "api.example.com@evil.example",
    ] {
        assert_eq!(ask("Host", host).await, 403, "{host}");
    }
    for own in [
        &*format!("https://localhost:{port}"),
        &format!("https://127.0.0.1:{port}"),
        "https://api.example.com",
        "https://mcp.example.com:8443",
    ] {
        assert_eq!(ask("Origin", own).await, 200, "{own}");
    }
    for foreign in [
        "https://evil.example",
        "null",
        "",
        "https://localhost",
        "http://api.example.com",
        "https://api.example.com:8443",
        "https://mcp.example.com",
        &format!("http://localhost:{port}"),
        "file://",
        "x",
    ] {
        assert_eq!(ask("Origin", foreign).await, 403, "{foreign}");
    }
    // Without a session too, and whatever is sent.
    for method in [Method::GET, Method::DELETE, Method::POST] {
        let headers = [("API-Key", &*key), ("Origin", "https://evil.example")];
        assert_eq!(fixture.request(method, &headers).body("{").send().await.unwrap().status(), 403);
    }
}
