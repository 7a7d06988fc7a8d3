//! The official TypeScript SDK, in `tests/mcp`, as a client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Fixture, TOOLS};
use crate::servers::left_out;
use crate::support::{BUSY, Program};

/// The folder of the client's program, unless it or what runs it is not installed.
fn installed() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp");
    let node = Command::new("node").arg("--version").output();
    let missing = if node.is_err() {
        "node is not installed"
    } else if !folder.join("node_modules/@modelcontextprotocol/sdk/package.json").is_file() {
        "the TypeScript SDK is not installed: npm ci --prefix tests/mcp"
    } else {
        return Some(folder);
    };
    left_out(missing);
    None
}

/// The client at work. Each line that it prints is an event.
struct Client(Program);

impl Client {
    fn start(folder: &Path, fixture: &Fixture, header: &str) -> Self {
        let mut command = Command::new("node");
        command.arg("client.mjs").arg(fixture.uri()).current_dir(folder);
        // The one way to trust a certificate without trusting any.
        command.env("NODE_EXTRA_CA_CERTS", fixture.folder.path().join("data/cert.pem"));
        // Not an argument: those can be read by everybody on the machine.
        command.env("MCP_HEADER", header);
        Self(Program::run(&mut command))
    }

    fn event(&mut self, name: &str) -> Value {
        let is_it = |line: &str| line.contains(&format!(r#""event":"{name}""#));
        serde_json::from_str(&self.0.line(is_it)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_sdk_works_until_its_key_is_deleted() {
    let Some(folder) = installed() else { return };
    let fixture = Fixture::start(&[]).await;
    for header in ["API-Key: ", "Authorization: Bearer "] {
        let key = fixture.key_of(&fixture.admin).await;
        let mut client = Client::start(&folder, &fixture, &format!("{header}{}", key.text));
        let hello = client.event("initialised");
        assert_eq!(hello["server"]["name"], "tower-api-key-example");
        assert_eq!(hello["has_session"], true);
        let tools = client.event("tools");
        assert_eq!(tools["names"], serde_json::json!(TOOLS));
        let said = client.event("called");
        let message = "The API key is valid for account: admin@example.com";
        assert_eq!(said["result"]["message"], message);
        let wrong = client.event("wrong");
        assert!(wrong["result"]["param"] == "limit" && wrong["is_error"] == true, "{wrong}");
        client.event("streaming");

        fixture.delete(&key).await;
        let gone = Instant::now();
        for stream in ["GET", "POST"] {
            let ended = client.event("ended");
            assert!(
                ["GET", "POST"].contains(&ended["method"].as_str().unwrap()),
                "{stream} {ended}"
            );
        }
        let took = gone.elapsed();
        assert!(took <= Duration::from_secs(2) + BUSY, "{took:?}");
        assert_eq!(client.event("refused")["status"], 401);
        let (code, stdout, stderr) = client.0.end();
        assert_eq!(code, Some(0), "{stdout} {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_sdk_is_refused_without_a_key() {
    let Some(folder) = installed() else { return };
    let fixture = Fixture::start(&[]).await;
    for header in
        ["X-Other: x", "API-Key: acme_live_wrong", "Authorization: Bearer acme_live_wrong"]
    {
        let mut client = Client::start(&folder, &fixture, header);
        assert_eq!(client.event("refused")["status"], 401, "{header}");
    }
}
