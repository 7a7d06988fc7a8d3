//! The examples do what they say, as somebody would run them: their own `curl` line, and without it.

use std::process::Command;

use crate::servers::folder::Folder;
use crate::support::{BUSY, Program};

/// Runs the line that a program printed, with more arguments.
pub(crate) fn curl(line: &str, more: &[&str]) -> String {
    let command = format!("{line} --silent --show-error --include --max-time 20 \"$@\"");
    let output = Command::new("sh").args(["-c", &command, "sh"]).args(more).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Starts an example on a free port; its `curl` line.
fn started(example: &str) -> (Program, String) {
    let mut program = Program::start(example, &["127.0.0.1:0"]);
    let line = program.line(|line| line.starts_with("curl "));
    (program, line)
}

#[test]
fn quickstart() {
    let (_program, line) = started("quickstart");
    let answer = curl(&line, &[]);
    assert!(
        answer.contains("200 OK") && answer.ends_with("Hello, admin@example.com\n"),
        "{answer}"
    );
    let answer = curl(&line, &["-H", "API-Key;"]);
    assert!(answer.contains("401"), "a second line: {answer}");
    // As through a tunnel on this machine.
    let answer = curl(&line, &["-H", "X-Forwarded-For: 203.0.113.7"]);
    assert!(answer.contains("401") && answer.contains("over HTTPS"), "{answer}");
}

#[test]
fn quickstart_is_no_longer_than_promised() {
    let lines = include_str!("../../examples/quickstart.rs").lines().count();
    assert!(lines <= 40, "{lines}");
}

#[test]
fn behind_proxy() {
    let (_program, line) = started("behind_proxy");
    assert!(curl(&line, &[]).ends_with("Hello, admin@example.com\n"));
    for bare in [
        line.replace("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"),
        line.replace("X-Forwarded-Proto: https", "X-Other: https"),
        line.replace("X-Forwarded-Proto: https", "Forwarded: proto=https"),
    ] {
        let answer = curl(&bare, &[]);
        assert!(answer.contains("401") && answer.contains("over HTTPS"), "{answer}");
    }
    let answer = curl(&line, &["-H", "X-Forwarded-Proto: https"]);
    assert!(answer.contains("401"), "two lines: {answer}");
}

#[test]
fn unix_socket() {
    let folder = Folder::new();
    let socket = folder.path().join("api.sock");
    let mut program = Program::start("unix_socket", &[socket.to_str().unwrap()]);
    let line = program.line(|line| line.starts_with("curl "));
    assert!(curl(&line, &[]).ends_with("Hello, admin@example.com\n"));
    let keyless = line.replace("API-Key: acme", "Other: acme");
    assert!(curl(&keyless, &[]).contains("401"));
}

#[test]
fn hyper_service() {
    let (_program, line) = started("hyper_service");
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&line, &[version]);
        assert!(
            answer.contains(" 200") && answer.ends_with("Hello, admin@example.com\n"),
            "{answer}"
        );
    }
    let wrong = line.replace("API-Key: acme", "API-Key: acmf");
    assert!(curl(&wrong, &[]).contains("Invalid API key."));
}

#[test]
fn custom_store() {
    let (_program, line) = started("custom_store");
    assert!(curl(&line, &[]).ends_with("Hello, partner-7\n"));
    let wrong = line.replace("demonstration", "demonstratiom");
    assert!(curl(&wrong, &[]).contains("Invalid API key."));
}

#[test]
fn streams() {
    use std::io::Write as _;
    let mut command = Command::new(crate::support::path_of("streams"));
    let (mut program, mut input) = Program::run_with_input(command.arg("127.0.0.1:0"));
    let line = program.line(|line| line.starts_with("curl "));
    let mut curl = Command::new("sh");
    curl.args(["-c", &format!("exec {line} --silent --show-error --max-time 60")]);
    let mut client = Program::run(&mut curl);
    for number in 0..5 {
        client.line(|line| line == format!("data: {number}"));
    }
    input.write_all(b"\n").unwrap();
    program.line(|line| line == "deleted: true");
    let deleted = std::time::Instant::now();
    let (code, said, stderr) = client.end();
    assert_eq!(code, Some(0), "it is ended by the server: {said} {stderr}");
    let promised = std::time::Duration::from_secs(2);
    assert!(deleted.elapsed() < promised + BUSY, "{:?}", deleted.elapsed());
    assert!(self::curl(&line, &[]).contains("Invalid API key."));
}
