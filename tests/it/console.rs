//! The example server's console: who is let in, and how a session begins and ends.

use std::process::Command;

use crate::server::Server;
use crate::servers::folder::Folder;
use crate::support::{Answer, exchange, get, get_tls, path_of, request, tls, tls_over};

const PASSWORD: &str = "a pass&word of mine, with ünïcode";

fn start(folder: &std::path::Path, more: &[&str]) -> Server {
    let mut command = Command::new(path_of("server"));
    command.args(["--http-addr", "127.0.0.1:0"]).args(more);
    Server::run(command.env("ADMIN_PASSWORD", PASSWORD).env("RUST_LOG", "trace"), folder)
}

async fn post(server: &Server, path: &str, headers: &str, body: &str) -> Answer {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    let mut bytes = request("POST", path, &headers);
    bytes.extend_from_slice(body.as_bytes());
    exchange(tls(server.https).await, &bytes).await
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

async fn sign_in(server: &Server, password: &str, headers: &str) -> Answer {
    post(server, "/console/sign-in", &format!("{FORM}{headers}"), &filled_in(password)).await
}

fn filled_in(password: &str) -> String {
    password.bytes().fold("password=".to_owned(), |text, byte| format!("{text}%{byte:02x}"))
}

/// The cookie that an answer sets, as a header line to send.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    let mut attributes: Vec<_> = attributes.split("; ").collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]);
    let token = pair.strip_prefix("__Host-session=").unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    format!("Cookie: other=1; {pair}\r\n")
}

fn session_pair(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    set.split_once("; ").unwrap().0.to_owned()
}

#[tokio::test]
async fn a_session_begins_with_the_password_and_ends_with_signing_out() {
    let folder = Folder::new();
    let server = start(folder.path(), &[]);
    assert!(!server.program.said.iter().any(|line| line.contains("password")));

    let form = get_tls(server.https, "/console/", "").await;
    assert!(form.status == 200 && form.body.contains("type=\"password\""), "{}", form.body);
    assert!(!form.body.contains("First key"));
    assert_eq!(get_tls(server.https, "/console", "").await.header("location"), Some("/console/"));

    let wrong = sign_in(&server, "wrong", "").await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.body.contains("This is not the password."), "{}", wrong.body);
    assert_eq!(post(&server, "/console/sign-in", FORM, "").await.status, 400);
    for headers in ["Origin: https://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(sign_in(&server, PASSWORD, headers).await.status, 403, "{headers}");
    }

    // A cookie that somebody else has put there does not become the session.
    let planted = format!("Cookie: __Host-session={}\r\n", "ab".repeat(32));
    let answer = sign_in(&server, PASSWORD, &planted).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console/")));
    let session = cookie(&answer);
    // Cookies that others have put there do not hide the session.
    let pair = session_pair(&answer);
    for line in [
        format!("Cookie: other=\u{e9}; {pair}\r\n"),
        format!("Cookie: __Host-session=other; {pair}\r\n"),
        format!("Cookie: __Host-session=other\r\nCookie: {pair}\r\n"),
    ] {
        let list = get_tls(server.https, "/console/api/api-keys", &line).await;
        assert_eq!(list.status, 200, "{line} {}", list.body);
    }
    // Signing in anew makes a new session and ends the one that was there.
    let newer = cookie(&sign_in(&server, PASSWORD, &session).await);
    assert_ne!(session, newer, "always a new one");
    assert_eq!(get_tls(server.https, "/console/api/api-keys", &session).await.status, 401);
    let session = newer;
    for (headers, is_in) in [(&session, true), (&planted, false), (&server.key(), false)] {
        let page = get_tls(server.https, "/console/", headers).await;
        assert_eq!(page.body.contains("First key"), is_in, "{}", page.body);
        let list = get_tls(server.https, "/console/api/api-keys", headers).await;
        assert_eq!(list.status, if is_in { 200 } else { 401 }, "{}", list.body);
        let first = format!("{headers}Content-Type: application/json\r\n");
        let first = post(&server, "/console/first-key", &first, "{}").await;
        assert_eq!(first.status, if is_in { 204 } else { 401 });
    }

    for answer in [&form, &wrong, &answer] {
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    let out = post(&server, "/console/sign-out", &format!("{session}{FORM}"), "").await;
    assert_eq!((out.status, out.header("location")), (303, Some("/console/")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(out.header("clear-site-data"), Some(r#""cache", "storage""#));
    assert_eq!(get_tls(server.https, "/console/api/api-keys", &session).await.status, 401);
}

#[tokio::test]
async fn who_signs_in_and_out_and_who_fails_to_is_logged_with_the_address() {
    let folder = Folder::new();
    let server = start(folder.path(), &[]);
    assert_eq!(sign_in(&server, "wrong", "").await.status, 401);
    let session = cookie(&sign_in(&server, PASSWORD, "").await);
    for _ in 0..2 {
        let out = post(&server, "/console/sign-out", &format!("{session}{FORM}"), "").await;
        assert_eq!(out.status, 303);
    }
    server.program.signal("-TERM");
    let (_, _, log) = server.program.end();
    for (event, level, times) in [
        ("a sign-in to the console was refused", "WARN", 1),
        ("somebody signed in to the console", "INFO", 1),
        // The second time there was no session.
        ("somebody signed out of the console", "INFO", 1),
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(event)).collect();
        assert_eq!(lines.len(), times, "{event}: {log}");
        assert!(lines[0].contains(level) && lines[0].contains("peer=127.0.0.1"), "{lines:?}");
    }
    assert!(!log.contains("pass&word"), "{log}");
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let folder = Folder::new();
    let server = start(folder.path(), &[]);
    for _ in 0..20 {
        assert_eq!(sign_in(&server, "guess", "").await.status, 401);
    }
    for password in ["guess", PASSWORD] {
        let answer = sign_in(&server, password, "").await;
        assert_eq!((answer.status, answer.header("set-cookie")), (429, None));
        assert!(answer.body.contains("Too many wrong passwords."), "{}", answer.body);
    }

    // And keeps nobody out who is elsewhere.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let socket = socket.connect(server.https).await.unwrap();
    let body = filled_in(PASSWORD);
    let headers = format!("{FORM}Content-Length: {}\r\n", body.len());
    let mut bytes = request("POST", "/console/sign-in", &headers);
    bytes.extend_from_slice(body.as_bytes());
    assert_eq!(exchange(tls_over(socket, &[b"http/1.1"]).await, &bytes).await.status, 303);
}

#[tokio::test]
async fn every_401_says_how_one_is_authenticated() {
    let folder = Folder::new();
    let server = start(folder.path(), &[]);
    for answer in [
        sign_in(&server, "wrong", "").await,
        post(&server, "/console/api/api-keys", "", "").await,
        get_tls(server.https, "/console/api/api-keys", "").await,
    ] {
        let challenge = answer.header("www-authenticate");
        assert_eq!((answer.status, challenge), (401, Some(r#"Cookie realm="console""#)));
    }
}

#[tokio::test]
async fn a_password_that_nobody_set_is_made_and_printed() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let line = server.program.said.iter().find(|line| line.contains("password")).unwrap();
    let password = line.rsplit(' ').next().unwrap();
    assert!(
        password.len() == 32 && password.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{line}"
    );
    assert_eq!(sign_in(&server, password, "").await.status, 303);
    let mut other = password.to_owned();
    assert!(other.pop().is_some());
    assert_eq!(sign_in(&server, &other, "").await.status, 401);
}

#[tokio::test]
async fn the_plain_port_has_no_console() {
    let folder = Folder::new();
    let server = start(folder.path(), &["--trusted-proxy", "127.0.0.0/8"]);
    let session = cookie(&sign_in(&server, PASSWORD, "").await);
    for headers in
        [String::new(), session.clone(), format!("{session}X-Forwarded-Proto: https\r\n")]
    {
        for path in ["/console/", "/console/api/api-keys", "/console/style.css"] {
            assert_eq!(get(server.http, path, &headers).await.status, 401, "{path} {headers}");
        }
    }
}
