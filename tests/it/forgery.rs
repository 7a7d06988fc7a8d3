//! Mistakes that must not compile, and for the reason that is meant: each program in `forgery/`
//! begins with the compiler's error codes that it must get, and must get no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::servers::folder::Folder;
use crate::support::cargo;

#[test]
fn identities_evidence_and_secrets_cannot_be_forged_printed_or_compared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Folder::new();
    let bins = package.path().join("src/bin");
    fs::create_dir_all(&bins).unwrap();
    let mut expected = BTreeMap::new();
    for entry in fs::read_dir(root.join("tests/it/forgery")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let codes = text.lines().next().unwrap().strip_prefix("// ").unwrap();
        expected.insert(name, codes.split(' ').map(str::to_owned).collect::<BTreeSet<_>>());
        fs::copy(&path, bins.join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(root.join("Cargo.lock"), package.path().join("Cargo.lock")).unwrap();
    fs::write(package.path().join("Cargo.toml"), manifest(root)).unwrap();

    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let check = cargo()
        .args(["check", "--bins", "--keep-going", "--offline", "--message-format=json"])
        .args(["--target-dir".as_ref(), target.as_os_str()])
        .current_dir(package.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8(check.stdout).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(code) = line["message"]["code"]["code"].as_str() else { continue };
        if line["message"]["level"] == "error" {
            let name = line["target"]["name"].as_str().unwrap();
            found.entry(name.to_owned()).or_default().insert(code.to_owned());
        }
    }
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(&check.stderr));
}

fn manifest(root: &Path) -> String {
    format!(
        r#"
        [package]
        name = "forgery"
        edition = "2024"

        [dependencies]
        tower-api-key = {{ path = '{}', features = ["axum", "tls", "sqlite"] }}
        axum = "0.8"
        bytes = "1"
        http = "1"
        serde_json = "1"
        "#,
        root.display()
    )
}
