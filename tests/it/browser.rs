//! The management page in a real Chromium, driven by the scripts in `tests/browser`.

mod site;

use std::path::Path;
use std::process::{Command, Stdio};

use self::site::Site;
use crate::servers::{present, program};

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

/// Serves a site until it is killed, for a look by hand.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it does not end"]
async fn by_hand() {
    let site = Site::start().await;
    println!("{}", site.base());
    std::future::pending::<()>().await;
}
