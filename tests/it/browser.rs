//! The management page in a real Chromium, driven by the scripts in `tests/browser`.

mod site;

use std::path::Path;
use std::process::{Command, Stdio};

use self::site::Site;
use crate::server::Server;
use crate::servers::folder::Folder;
use crate::servers::{present, program};
use crate::support::path_of;

/// What the scripts need, or what is missing.
fn browser() -> Result<(std::path::PathBuf, std::path::PathBuf), String> {
    let node = program("node", &[]).ok_or("node is not installed")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let chromium = names.iter().find_map(|name| program(name, &[]));
    let chromium = chromium.ok_or("Chromium is not installed")?;
    let modules = folder().join("node_modules/playwright-core");
    if !modules.is_dir() {
        return Err("`npm ci` has not been run in tests/browser".to_owned());
    }
    Ok((node, chromium))
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser"))
}

/// Runs a script to its end; its own report is in the panic when it fails.
async fn run(script: &str, settings: &[(&str, String)]) {
    let Some((node, chromium)) = present(browser()) else { return };
    let mut command = Command::new(node);
    command.arg(folder().join(script)).env("CHROMIUM", chromium);
    command.env("SCREENSHOTS", concat!(env!("CARGO_TARGET_TMPDIR"), "/screenshots"));
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}\n{complained}");
}

async fn run_on_site(script: &str) {
    let site = Site::start().await;
    run(script, &[("BASE", site.base())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_legible_at_every_width() {
    run_on_site("states.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_then_nowhere() {
    run_on_site("flow.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_works_without_a_mouse() {
    run_on_site("keyboard.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_said_and_loses_no_key() {
    run_on_site("troubles.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_server_has_a_console() {
    let folder = Folder::new();
    let mut command = Command::new(path_of("server"));
    let command = command.args(["--http-addr", "127.0.0.1:0"]).env("RUST_LOG", "trace");
    let server = Server::run(command.env_remove("ADMIN_PASSWORD"), folder.path());
    let password = "The console's password, shown only now: ";
    let line = server.program.said.iter().find_map(|line| line.strip_prefix(password));
    let password = line.unwrap().to_owned();
    let base = format!("https://localhost:{}", server.https.port());
    run("console.mjs", &[("BASE", base), ("PASSWORD", password.clone())]).await;

    server.program.signal("-TERM");
    let (code, stdout, stderr) = server.program.end();
    assert_eq!((code, stdout.matches(&password).count()), (Some(0), 1));
    for secret in [password.as_str(), "not the password", "__Host-session="] {
        assert!(!stderr.contains(secret), "{secret} is in the log");
    }
}

/// Serves a site until it is killed, for a look by hand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it does not end"]
async fn by_hand() {
    let site = Site::start().await;
    println!("{}", site.base());
    std::future::pending::<()>().await;
}
