//! The operators' program, run as they would run it, over each store.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::servers::folder::Folder;
use crate::servers::{Postgres, Redis};
use crate::support::path_of_cli;

struct Cli<'a> {
    store: &'a str,
}

impl Cli<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(path_of_cli());
        command.args(arguments).env("API_KEY_STORE", self.store).env("API_KEY_PREFIX", "acme");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        crate::witness::learn(&output.stdout);
        output
    }

    /// What it answers when it succeeds: the standard output, and the standard error.
    fn done(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let said = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said:?}");
        said
    }

    /// What it says when it ends with this code.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        text(&output.stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.done(&arguments).0).unwrap()
    }

    /// Whether a key works, and what is said of it.
    fn verify(&self, key: &str, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(&[&["verify"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It reads no more than a key can have.
        let _ = child.stdin.take().unwrap().write_all(key.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(key.trim().is_empty() || !said.contains(key.trim()), "it repeats the key");
        (output.status.code().unwrap(), said)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const CREATE: [&str; 5] = ["create", "--account", "admin@example.com", "--name", "Production CRM"];
const LIST: [&str; 3] = ["list", "--account", "admin@example.com"];

/// The life of a key, over any store.
fn a_key_s_life(store: &str) {
    let cli = Cli { store };
    let (key, said) = cli.done(
        &[
            &CREATE[..],
            &[
                "--environment",
                "live",
                "--scope",
                "b:read",
                "--scope",
                "a:read",
                "--expires",
                "90d",
            ],
            &["--sources", "203.0.113.0/24"],
        ]
        .concat(),
    );
    let key = key.trim_end();
    assert!(key.starts_with("acme_live_") && !key.contains(char::is_whitespace), "{}", key.len());
    assert!(said.contains("Production CRM") && !said.contains(key), "the key is shown once");

    let listed = &cli.json(&LIST)["data"];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let shown = &listed[0];
    let id = shown["id"].as_str().unwrap();
    assert_eq!(shown["name"], "Production CRM");
    assert_eq!(shown["environment"], "live");
    assert_eq!(shown["scopes"], serde_json::json!(["a:read", "b:read"]));
    assert_eq!(shown["sources"], serde_json::json!(["203.0.113.0/24"]));
    assert_eq!(shown["status"], "active");
    let (table, said) = cli.done(&LIST);
    assert_eq!((table.lines().count(), said.as_str()), (2, ""));
    assert!(table.contains(id) && table.contains("Production CRM") && !table.contains(key));

    // From nowhere in particular, which this key is not for.
    let (code, said) = cli.verify(&format!("{key}\n"), &[]);
    assert_eq!(code, 1);
    assert!(said.contains("Production CRM") && said.contains(id), "{said}");
    // Of whichever environment it is.
    assert_eq!(cli.verify(key, &["--from", "203.0.113.9"]).0, 0);

    let made = cli.json(&CREATE);
    let (second, second_id) = (made["api_key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let (code, said) = cli.verify(second, &["--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["valid"], &said["id"]), (0, &true.into(), &second_id.into()));
    assert_eq!(said["account"], "admin@example.com");

    let rotate = ["rotate", "--account", "admin@example.com", second_id, "--grace", "2h"];
    let successor = cli.done(&rotate).0;
    assert_eq!(cli.verify(&successor, &[]).0, 0);
    assert_eq!(cli.verify(second, &[]).0, 0);
    let old = cli.json(&LIST)["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["id"] == second_id)
        .cloned();
    let old = old.unwrap();
    assert!(old["replaced_by"].is_string() && old["expires_at"].is_string(), "{old}");
    assert_eq!(old["status"], "replaced");

    let delete = ["delete", "--account", "admin@example.com", second_id];
    assert!(cli.fails(3, &delete).contains("--yes"));
    assert_eq!(cli.verify(second, &[]).0, 0, "nothing was deleted");
    cli.fails(2, &["rotate", "--account", "a", "x", "--grace=-1h"]);
    assert!(!cli.fails(3, &["verify", second]).contains(second));
    let (out, said) = cli.done(&[&delete[..], &[second_id, "--yes"]].concat());
    assert!(
        out.is_empty() && said.contains("Production CRM") && said.contains(second_id),
        "{said}"
    );
    let (code, said) = cli.verify(second, &[]);
    assert_eq!(code, 1);
    assert!(said.contains("deleted key") && said.contains("Production CRM"), "{said}");
    assert!(cli.fails(3, &[&delete[..], &["--yes"]].concat()).contains(second_id));
    let other = ["delete", "--yes", "--account", "somebody.else@example.com", id];
    assert!(cli.fails(3, &other).contains("no key"));
    assert_eq!(cli.json(&LIST)["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_key_s_life_in_sqlite() {
    let folder = Folder::new();
    a_key_s_life(&format!("sqlite:{}", folder.path().join("keys.db").display()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_life_in_postgresql() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    tokio::task::spawn_blocking(move || a_key_s_life(&url)).await.unwrap();
}

#[test]
fn a_key_s_life_in_redis() {
    let Some(server) = Redis::shared() else { return };
    a_key_s_life(&server.fresh_database());
}

#[test]
fn a_key_that_nobody_could_read_is_deleted_again() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    let cli = Cli { store: &store };
    if !Path::new("/dev/full").exists() {
        return;
    }
    let to_full = |arguments: &[&str]| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = cli.command(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        let said = text(&output.stderr);
        assert!(said.contains("was deleted again"), "{said}");
        said
    };
    for more in [&[][..], &["--json"]] {
        to_full(&[&CREATE[..], more].concat());
        assert_eq!(cli.json(&LIST)["data"].as_array().unwrap().len(), 0);
    }
    let old = cli.json(&CREATE)["id"].as_str().unwrap().to_owned();
    let said = to_full(&["rotate", "--account", "admin@example.com", &old]);
    assert!(said.contains(&old) && said.contains("make a new key"), "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused_and_makes_nothing() {
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let store = format!("sqlite:{}", path.display());
    let cli = Cli { store: &store };
    assert!(cli.fails(3, &LIST).contains("there is no file"));
    assert!(!path.exists());
    let wrong: [&[&str]; 7] = [
        &["--environment", "LIVE"],
        &["--scope", "a b"],
        &["--sources", "10.0.0.1/8"],
        &["--expires", "soon"],
        &["--expires", "2027-02-30T00:00:00Z"],
        &["--prefix", "A"],
        &["--limit", "-1"],
    ];
    for arguments in wrong {
        cli.fails(2, &[&CREATE[..], arguments].concat());
    }
    for url in ["memory:", "mysql://user:pass-word@localhost", "\"postgres://user:pass-word@host\""]
    {
        let said = cli.fails(3, &[&CREATE[..], &["--store", url]].concat());
        assert!(!said.contains("pass-word"), "{said}");
    }
    assert!(!path.exists());
    cli.fails(3, &[&CREATE[..], &["--expires", "2020-01-01T00:00:00Z"]].concat());
    cli.done(&CREATE);
    assert!(cli.fails(3, &[&CREATE[..], &["--limit", "1"]].concat()).contains("at most 1"));
    let mut command = cli.command(&LIST);
    let output = command.env_remove("API_KEY_STORE").output().unwrap();
    assert!(text(&output.stderr).contains("API_KEY_STORE"), "{output:?}");
    for (key, code) in [("", 1), ("nonsense", 1), (&"x".repeat(100_000), 1)] {
        assert_eq!(cli.verify(key, &[]).0, code);
    }
}

#[test]
fn no_and_broken_are_different_and_no_password_is_said() {
    let cli = Cli { store: "redis://:pass%2Fword@127.0.0.1:1/0" };
    let said = cli.fails(3, &LIST);
    assert!(!said.contains("pass") && !said.contains("word@"), "{said}");
    let cli = Cli { store: "postgres://user:pass%2Fword@127.0.0.1:1/keys" };
    assert!(!cli.fails(3, &LIST).contains("pass%2Fword"));
}

#[test]
fn shells_complete_its_arguments() {
    let cli = Cli { store: "sqlite:nowhere" };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (script, _) = cli.done(&["completions", shell]);
        for word in ["create", "rotate", "delete", "verify", "account"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = cli.done(&["completions", "bash"]).0;
    let folder = Folder::new();
    let path = folder.path().join("complete");
    fs::write(&path, script).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success());
}

fn import<'a>(path: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["import", path], more].concat()
}

#[test]
fn keys_of_another_system_are_imported_whole_or_not_at_all() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    let cli = Cli { store: &store };
    let file = folder.path().join("rows.jsonl");
    let secret = "k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1";
    // printf %s k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1 | sha256sum
    let digest = "563dbc05f80a1aa36a9663cb68e6323f8a6c6eb430557fbf249623ff013125dd";
    // The id as databases give it.
    let row = |id: &str, digest: &str| {
        format!(
            r#"{{"account":"admin@example.com","name":"Token {id}","format":"sanctum","selector":{id},"digest":"{digest}"}}"#
        )
    };
    let path = file.to_str().unwrap();
    let write = |rows: &[String]| fs::write(&file, rows.join("\n")).unwrap();

    write(&[row("17", digest), row("18", "5a")]);
    let sanctum = ["--accept", "sanctum"];
    let output = cli.run(&import(path, &sanctum));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(
        said.starts_with("0 imported, 0 already there, 1 refused") && said.contains('2'),
        "{said}"
    );
    assert!(!said.contains(digest));
    assert!(cli.json(&LIST)["data"].as_array().unwrap().is_empty(), "none of them");

    write(&[row("17", digest), row("18", &"5a".repeat(32))]);
    let elsewhere = folder.path().join("nothing.db");
    let store = format!("sqlite:{}", elsewhere.display());
    cli.fails(3, &import(path, &["--dry-run", "--store", &store]));
    assert!(!elsewhere.exists(), "a dry run");
    let report = cli.json(&import(path, &[&sanctum[..], &["--dry-run"]].concat()));
    assert_eq!((&report["imported"], &report["already"]), (&2.into(), &0.into()));
    assert!(cli.json(&LIST)["data"].as_array().unwrap().is_empty(), "a dry run");
    assert_eq!(
        cli.run(&import(path, &[])).status.code(),
        Some(1),
        "a format that the service does not accept"
    );
    for (imported, already) in [(2, 0), (0, 2)] {
        let report = cli.json(&import(path, &sanctum));
        assert_eq!((&report["imported"], &report["already"]), (&imported.into(), &already.into()));
    }
    assert_eq!(cli.verify(&format!("17|{secret}"), &sanctum).0, 0);
    assert_eq!(cli.verify(&format!("18|{secret}"), &sanctum).0, 1);
    assert_eq!(cli.verify(&format!("17|{secret}"), &[]).0, 1);
    assert!(cli.fails(3, &["import", "nowhere.jsonl"]).contains("nowhere.jsonl"));
    assert!(cli.fails(2, &import(path, &["--accept", "md5"])).contains("md5"));
}

#[test]
fn a_pepper_is_read_from_a_file_and_never_said() {
    let folder = Folder::new();
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    let cli = Cli { store: &store };
    let file = folder.path().join("pepper");
    fs::write(&file, "too short").unwrap();
    let pepper = ["--pepper-file", file.to_str().unwrap()];
    assert!(cli.fails(3, &[&CREATE[..], &pepper].concat()).contains("at least 32 bytes"));
    fs::write(&file, "a pepper that is long enough for it").unwrap();
    let (key, said) = cli.done(&[&CREATE[..], &pepper].concat());
    assert!(!said.contains("long enough"));
    assert_eq!(cli.verify(&key, &pepper).0, 0);
    assert_eq!(cli.verify(&key, &[]).0, 1);
}
