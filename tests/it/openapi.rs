//! The example server's own description, held against the server by a fuzzer that reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::server::Server;
use crate::servers::folder::Folder;
use crate::servers::{present, program};
use crate::support::{exchange, request, tls};

const PASSWORD: &str = "a password for the fuzzer";

/// Schemathesis, in the folder that `tests/run.sh` puts it into, or on the path.
fn fuzzer() -> Result<PathBuf, String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin");
    program("schemathesis", &[own]).ok_or_else(|| "schemathesis is not installed".to_owned())
}

/// A session at the console.
async fn session(server: &Server) -> String {
    let form = format!("password={}", PASSWORD.replace(' ', "+"));
    let headers = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
        form.len()
    );
    let mut whole = request("POST", "/console/sign-in", &headers);
    whole.extend(form.bytes());
    let answer = exchange(tls(server.https).await, &whole).await;
    let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("{answer:?}"));
    cookie.strip_prefix("__Host-session=").unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_does_what_its_document_says() {
    let Some(fuzzer) = present(fuzzer()) else { return };
    let folder = Folder::new();
    let mut command = Command::new(crate::support::path_of("server"));
    command.args(["--http-addr", "127.0.0.1:0", "--store", "memory:"]);
    command.env("ADMIN_PASSWORD", PASSWORD).env("RUST_LOG", "error");
    let server = Server::run(&mut command, folder.path());

    // Whoever has no key does not see it.
    let unseen = crate::support::get_tls(server.https, "/openapi.json", "").await;
    assert_eq!(unseen.status, 401);
    let (status, document) = server.call("GET", "/openapi.json", &server.key(), None).await;
    assert_eq!(status, 200);
    assert_eq!(document["paths"].as_object().unwrap().len(), 8, "{document}");
    let file = folder.path().join("openapi.json");
    fs::write(&file, document.to_string()).unwrap();

    let key = server.key();
    let key = key.strip_prefix("API-Key: ").unwrap().trim_end().to_owned();
    let mut command = Command::new(fuzzer);
    command.arg("--config-file");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/schemathesis.toml"));
    command.arg("run").arg(&file).args(["--checks", "all", "--max-examples", "25", "--seed", "5"]);
    // A refusal does not wait for a body. Who is still sending one may find the connection closed, where
    // the machine is slow; who always does has found a mistake.
    command.args(["--tls-verify", "false", "--no-color", "--request-retries", "1"]);
    command.arg("--url").arg(format!("https://{}", server.https));
    command.env("API_KEY", key).env("SESSION", session(&server).await);
    command.current_dir(folder.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("13 selected / 13 total"), "{said}");
    // Had it not been let in, it would have seen nothing but refusals.
    assert!(!said.contains("Authentication failed"), "{said}");

    // What it did to the keys has left the server as it was.
    let (status, body) = server.call("GET", "/v2/test", &server.key(), None).await;
    assert!(status == 200 || status == 401, "{body}");
    let list: Value = server.call("GET", "/openapi.json", "", None).await.1;
    assert!(list["type"] == "authentication_error", "{list}");
    let (_, _, stderr) = {
        server.program.signal("-TERM");
        server.program.end()
    };
    assert!(!stderr.contains("panicked"), "{stderr}");
}
