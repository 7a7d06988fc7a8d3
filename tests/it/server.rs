//! The example server as somebody would run it: started, asked, killed, started again.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower_api_key::{KeyManager, KeyRegistry, PostgresStore, RedisStore, SqliteStore};

use crate::examples::curl;
use crate::servers::folder::Folder;
use crate::servers::{Postgres, Redis};
use crate::support::{
    Answer, Program, account, exchange, get, get_tls, named, path_of, request, soon, text, tls,
};

/// A running server.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) https: SocketAddr,
    pub(crate) http: SocketAddr,
    /// The key's header line and the printed `curl` line, if this start made the first key.
    first: Option<(String, String)>,
}

impl Server {
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        Self::start_logging(folder, more, "trace")
    }

    fn start_logging(folder: &Path, more: &[&str], log: &str) -> Self {
        let mut command = Command::new(path_of("server"));
        command.args(["--http-addr", "127.0.0.1:0"]).args(more);
        command.env("RUST_LOG", log).env_remove("ADMIN_PASSWORD");
        Self::run(&mut command, folder)
    }

    /// Runs a command that starts the server, with its data in this folder.
    pub(crate) fn run(command: &mut Command, folder: &Path) -> Self {
        command.args(["--https-addr", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
        let mut program = Program::run(command.current_dir(folder));
        program.line(|line| line == "ready");
        let address = |scheme: &str| {
            let line = program.said.iter().find_map(|line| line.strip_prefix(scheme));
            line.unwrap().parse().unwrap()
        };
        let (https, http) = (address("https://"), address("http://"));
        let line = program.said.iter().find(|line| line.starts_with("curl "));
        let first = line.map(|line| {
            let key = line.split('\'').find(|part| part.starts_with("API-Key: ")).unwrap();
            (format!("{key}\r\n"), line.clone())
        });
        Self { program, https, http, first }
    }

    pub(crate) fn key(&self) -> String {
        self.first.as_ref().unwrap().0.clone()
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let (headers, body) = body.map_or_else(Default::default, |body| {
            let body = body.to_string();
            let headers =
                format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            (headers, body)
        });
        let mut bytes = request(method, path, &format!("{key}{headers}"));
        bytes.extend_from_slice(body.as_bytes());
        let answer = exchange(tls(self.https).await, &bytes).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }
}

fn message(answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["type"], "authentication_error");
    body["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_printed_curl_line_works_and_the_plain_port_refuses() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let (key, line) = server.first.clone().unwrap();
    let answer = curl(&line, &[]);
    assert!(answer.contains(" 200"), "{answer}");
    let body = answer.lines().last().unwrap();
    assert_eq!(body, r#"{"message":"The API key is valid for account: admin@example.com"}"#);

    let answer = get_tls(server.https, "/v2/test", &key).await;
    assert_eq!(answer.status, 200);
    // The console is open on the HTTPS port, to be signed in to.
    assert_eq!(get(server.http, "/console/", &key).await.status, 401);
    for path in ["/v2/test", "/", "/nowhere", "/consoles", "/console.css"] {
        let answer = get(server.http, path, &key).await;
        assert_eq!(answer.status, 401);
        assert!(message(&answer).contains("over HTTPS"));
        assert!(message(&get_tls(server.https, path, "").await).contains("API-Key"));
        let wrong = get_tls(server.https, path, "API-Key: wrong\r\n").await;
        assert_eq!(message(&wrong), "Invalid API key.");
    }
    let forged = format!("{key}X-Forwarded-Proto: https\r\n");
    assert_eq!(get(server.http, "/v2/test", &forged).await.status, 401);
}

/// What a client says first that knows no TLS 1.3, and one cipher suite.
fn client_hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    // X25519 for the exchange of keys, ECDSA with P-256 for signatures.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&version[..], &[7; 32], &[0, 0, 2], &suite, &[1, 0, 0, 16], &extensions].concat();
    assert_eq!(body.len(), 59);
    [&[22, 3, 1, 0, 63, 1, 0, 0, 59][..], &body].concat()
}

#[tokio::test]
async fn tls_is_1_3_where_it_can_be_and_never_older_than_1_2_nor_without_forward_secrecy() {
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    const ECDHE: [u8; 2] = [0xc0, 0x2b];
    const RSA: [u8; 2] = [0, 0x9c];
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let stream = tls(server.https).await;
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    for (version, suite, answered) in [
        ([3, 3], ECDHE, HANDSHAKE),
        ([3, 3], RSA, ALERT),
        ([3, 2], ECDHE, ALERT),
        ([3, 1], ECDHE, ALERT),
        ([3, 0], ECDHE, ALERT),
    ] {
        let mut socket = TcpStream::connect(server.https).await.unwrap();
        socket.write_all(&client_hello(version, suite)).await.unwrap();
        let first = soon(socket.read_u8()).await.unwrap();
        assert_eq!(first, answered, "{version:?} {suite:?}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_opens_the_plain_port() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &["--trusted-proxy", "127.0.0.0/8"]);
    let key = server.key();
    let https = format!("{key}X-Forwarded-Proto: https\r\n");
    assert_eq!(get(server.http, "/v2/test", &https).await.status, 200);
    assert_eq!(get(server.http, "/v2/test", &key).await.status, 401);
    assert_eq!(get_tls(server.https, "/v2/test", &key).await.status, 200);
}

#[tokio::test]
async fn where_requests_come_from_is_what_trusted_proxies_say_where_that_is_said() {
    for (flags, is_said) in [(&[][..], false), (&["--x-forwarded-for"][..], true)] {
        let folder = Folder::new();
        let arguments = [&["--trusted-proxy", "127.0.0.0/8"], flags].concat();
        let server = Server::start(folder.path(), &arguments);
        let headers = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.9\r\n";
        for _ in 0..2 {
            assert_eq!(get(server.http, "/v2/test", headers).await.status, 401);
        }
        server.program.signal("-TERM");
        let (_, _, log) = server.program.end();
        assert_eq!(log.matches("client=203.0.113.9").count(), if is_said { 2 } else { 0 }, "{log}");
        let warnings = log.matches("TrustedProxies::with_x_forwarded_for").count();
        assert_eq!(warnings, usize::from(!is_said), "{log}");
    }
}

#[test]
fn flags_that_cannot_be_meant_are_refused() {
    let folder = Folder::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = port.local_addr().unwrap().to_string();
    for (arguments, said) in [
        (vec!["--store", "mongodb://x"], "expected memory:, sqlite:PATH"),
        (vec!["--store", "sqlite:"], "expected memory:, sqlite:PATH"),
        (vec!["--store", "sqlite:/nowhere/at/all.db"], "unavailable"),
        (vec!["--trusted-proxy", "0.0.0.0/0"], "everybody"),
        (vec!["--trusted-proxy", "proxy.internal"], "CIDR"),
        (vec!["--x-forwarded-for"], "--trusted-proxy"),
        (vec!["--public-host", "https://api.example.com"], "expected a host name"),
        (vec!["--public-host", "api.example.com:x"], "expected a host name"),
        (vec!["--public-host", "*.example.com"], "expected a host name"),
        (vec!["--cert", "cert.pem"], "--key"),
        (vec!["--https-addr", &taken], "cannot listen"),
    ] {
        let mut command = Command::new(path_of("server"));
        command.args(["--http-addr", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        if !arguments.contains(&"--https-addr") {
            command.args(["--https-addr", "127.0.0.1:0"]);
        }
        let output = command.args(&arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(!stdout.contains("curl"), "the first key is not spent on a start that fails");
    }
}

#[tokio::test]
async fn bookings_come_a_page_at_a_time() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &["--store", "memory:"]);
    let key = server.key();
    let mut path = "/v2/bookings?limit=7".to_owned();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let answer = get_tls(server.https, &path, &key).await;
        assert_eq!(answer.status, 200);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["object"], "list");
        let data = body["data"].as_array().unwrap();
        assert!(data.len() <= 7);
        seen.extend(data.iter().map(|booking| booking["id"].as_str().unwrap().to_owned()));
        let Some(link) = answer.header("link") else { break };
        assert!(link.ends_with(r#">; rel="next""#), "{link}");
        path = link[1..link.find('>').unwrap()].to_owned();
    }
    assert_eq!(seen.len(), 120);
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]));

    let (_, all) = server.call("GET", "/v2/bookings?limit=100", &key, None).await;
    let time = all["data"][49]["last_updated_time"].as_str().unwrap();
    assert!(time.len() == 24 && time.contains(".000Z"), "{time}");
    let path = format!("/v2/bookings?limit=3&last_updated_time.gt={time}");
    let answer = get_tls(server.https, &path, &key).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["data"][0]["id"], all["data"][50]["id"]);
    assert!(answer.header("link").unwrap().contains("last_updated_time.gt="));

    for (query, param) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=1", "limit"),
        ("after=", "after"),
        ("after=BKNG-1", "after"),
        ("after=%27%20OR%201", "after"),
        ("after=BKNG-00000%C3%A9", "after"),
        ("last_updated_time.gt=yesterday", "last_updated_time.gt"),
        ("page=2", "page"),
    ] {
        let (status, body) = server.call("GET", &format!("/v2/bookings?{query}"), &key, None).await;
        assert_eq!((status, &body["param"]), (400, &json!(param)), "{query}");
        assert_eq!(body["type"], "invalid_request_error");
    }
    let (status, _) = server.call("GET", "/v2/bookings?after=BKNG-999999", &key, None).await;
    assert_eq!(status, 200);
}

/// Two servers on one store that is a server itself: either accepts the key that one of them made,
/// neither lets anybody in or says 401 while the store is down, and a deletion is seen by both at once.
async fn two_servers_share(
    url: &str,
    store: Arc<dyn KeyRegistry>,
    kill: impl Fn(),
    restart: impl Fn(),
) {
    let folder = Folder::new();
    let servers = ["one", "two"].map(|name| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        Server::start(&folder, &["--store", url])
    });
    let key = servers[0].key();
    assert!(servers[1].first.is_none(), "the first key is made once");
    let ask = async |key: &str, expected: u16| {
        for server in &servers {
            let started = Instant::now();
            let answer = get_tls(server.https, "/v2/test", key).await;
            assert_eq!(answer.status, expected, "{answer:?}");
            assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        }
    };
    ask(&key, 200).await;
    kill();
    for _ in 0..3 {
        ask(&key, 503).await;
        ask("API-Key: wrong\r\n", 401).await;
    }
    restart();
    answer_again(&servers, &key).await;
    ask(&key, 200).await;

    let manager = KeyManager::new(store, "acme".parse().unwrap());
    let account = "admin@example.com".parse().unwrap();
    let id = manager.list(&account).await.unwrap()[0].id.clone();
    manager.delete(&account, &id).await.unwrap();
    ask(&key, 401).await;

    let secret = key.trim_end().trim_start_matches("API-Key: ");
    for server in servers {
        server.program.signal("-TERM");
        let (code, stdout, stderr) = server.program.end();
        assert_eq!(code, Some(0), "{stderr}");
        let shown = stdout.matches(secret).count();
        assert!(shown <= 1 && !stderr.contains(secret), "the key is in an output");
        assert!(!stderr.contains("pass/word") && !stderr.contains("pass%2Fword"), "{stderr}");
        assert!(stderr.contains("unavailable") || stderr.contains("in time"), "{stderr}");
    }
}

/// Soon after the store is back. An attempt to connect that failed a moment before that may still be
/// what callers are told; never that the key is wrong.
async fn answer_again(servers: &[Server], key: &str) {
    let restarted = Instant::now();
    for server in servers {
        while get_tls(server.https, "/v2/test", key).await.status == 503 {
            assert!(
                restarted.elapsed() < Duration::from_secs(5),
                "the store has been back for long"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_a_postgresql() {
    let Some(server) = Postgres::options().password().durable().start() else { return };
    let url = server.fresh_database().await;
    let store = Arc::new(PostgresStore::connect(&url).await.unwrap());
    two_servers_share(&url, store, || server.kill(), || server.restart()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_a_redis() {
    let Some(server) = Redis::start(&Redis::DURABLE) else { return };
    let url = server.fresh_database();
    let store = Arc::new(RedisStore::connect(&url).await.unwrap());
    two_servers_share(&url, store, || server.kill(), || server.restart()).await;
}

#[tokio::test]
async fn webhooks_belong_to_the_account_and_survive_a_restart() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let key = server.key();
    let hook = json!({ "name": "CRM", "url": "https://example.com/hook", "events": ["booking.scheduled"] });
    let (status, made) = server.call("POST", "/v2/webhooks", &key, Some(hook.clone())).await;
    assert_eq!(status, 201);
    let path = format!("/v2/webhooks/{}", made["id"].as_str().unwrap());
    let (status, body) = server.call("POST", "/v2/webhooks", &key, Some(hook)).await;
    assert_eq!((status, &body["param"]), (409, &json!("name")));

    for (field, value) in [
        ("name", json!("")),
        ("name", json!(7)),
        ("name", json!("a\nb")),
        ("name", json!("x".repeat(101))),
        ("url", json!("http://example.com/")),
        ("url", json!("https://")),
        ("url", json!("javascript:1")),
        ("events", json!("booking")),
        ("events", json!([])),
        ("events", json!([7])),
        ("secret", json!(1)),
    ] {
        let mut hook = json!({ "name": "Other", "url": "https://example.com/", "events": ["x"] });
        hook[field] = value;
        let (status, body) = server.call("POST", "/v2/webhooks", &key, Some(hook)).await;
        assert_eq!((status, &body["param"]), (400, &json!(field)), "{body}");
    }
    let (status, body) = server.call("POST", "/v2/webhooks", &key, Some(json!([]))).await;
    assert!(
        (400..500).contains(&status) && body["type"] == "invalid_request_error",
        "{status} {body}"
    );

    let Server { program, .. } = server;
    program.signal("-KILL");
    drop(program);
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.call("GET", &path, &key, None).await.1, made);
    let (_, list) = server.call("GET", "/v2/webhooks", &key, None).await;
    assert_eq!(list["data"], json!([made]));
    assert_eq!(server.call("DELETE", &path, &key, None).await.0, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(server.call(method, &path, &key, None).await.0, 404);
    }
}

#[tokio::test]
async fn a_webhook_outlives_its_key_and_is_managed_with_another() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let first = server.key();
    let hook = json!({ "name": "CRM", "url": "https://example.com/hook", "events": ["booking.scheduled"] });
    let (_, made) = server.call("POST", "/v2/webhooks", &first, Some(hook)).await;
    let path = format!("/v2/webhooks/{}", made["id"].as_str().unwrap());

    let store = SqliteStore::open(folder.path().join("data/keys.db")).await.unwrap();
    let manager = KeyManager::new(store, "acme".parse().unwrap());
    let owner = account("admin@example.com");
    let new = named("Another").with_environment("live".parse().unwrap());
    let second = format!("API-Key: {}\r\n", text(manager.create(&owner, new).await.unwrap()));
    let keys = manager.list(&owner).await.unwrap();
    let its_key = keys.iter().find(|key| key.name.as_str() != "Another").unwrap();
    manager.delete(&owner, &its_key.id).await.unwrap();

    assert_eq!(server.call("GET", &path, &first, None).await.0, 401);
    assert_eq!(server.call("GET", &path, &second, None).await.1, made);
    assert_eq!(server.call("DELETE", &path, &second, None).await.0, 204);
}

#[tokio::test]
async fn a_certificate_that_is_given_is_served() {
    let (theirs, ours) = (Folder::new(), Folder::new());
    drop(Server::start(theirs.path(), &[]));
    let file = |name: &str| theirs.path().join("data").join(name).to_str().unwrap().to_owned();
    let (cert, private) = (file("cert.pem"), file("key.pem"));
    let server = Server::start(ours.path(), &["--cert", &cert, "--key", &private]);
    let socket = tls(server.https).await;
    let in_use = socket.get_ref().1.peer_certificates().unwrap();
    let given = CertificateDer::from_pem_file(&cert).unwrap();
    assert_eq!(in_use, [given]);
    assert!(!ours.path().join("data/cert.pem").exists(), "none is made");
}

#[test]
fn without_flags_the_ports_and_the_folder_are_the_documented_ones() {
    let output = Command::new(path_of("server")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for default in ["127.0.0.1:8443", "127.0.0.1:8080", "./server-data"] {
        assert!(help.contains(&format!("[default: {default}]")), "{default}: {help}");
    }
}

#[tokio::test]
async fn term_drains_and_exits_with_0() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    // A request whose body is still under way when the signal comes.
    let mut stream = tls(server.https).await;
    let body = r#"{"name":"Slow","url":"https://example.com/","events":["x"]}"#;
    let head = request(
        "POST",
        "/v2/webhooks",
        &format!(
            "{}Content-Type: application/json\r\nContent-Length: {}\r\n",
            server.key(),
            body.len()
        ),
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, &head).await.unwrap();
    tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
    // The connection is being served once another answer has come after it.
    assert_eq!(get_tls(server.https, "/v2/test", &server.key()).await.status, 200);
    server.program.signal("-TERM");
    let answer = exchange(stream, body.as_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let (code, _, stderr) = server.program.end();
    assert_eq!(code, Some(0), "{stderr}");
}

#[tokio::test]
async fn a_restart_loses_no_key_and_shows_none_again() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let key = server.key();
    for signal in ["-KILL", "-TERM", "-KILL"] {
        let mut server = Server::start(folder.path(), &[]);
        assert!(server.first.is_none(), "the first key is shown once");
        assert_eq!(get_tls(server.https, "/v2/test", &key).await.status, 200);
        server.program.signal(signal);
        let _ = server.program.child.wait();
    }
}

/// Names the file for the process that is killed.
const CHURN: &str = "TOWER_API_KEY_TEST_CHURN";

/// Not a test unless it is started by the next one: makes keys and deletes every third.
#[tokio::test]
async fn making_and_deleting_until_killed() {
    use tower_api_key::{KeyManager, SqliteStore};
    let Some(path) = std::env::var_os(CHURN) else { return };
    let store = SqliteStore::open(path).await.unwrap();
    let manager = KeyManager::new(store, "acme".parse().unwrap()).with_limit(usize::MAX);
    let owner = crate::support::account("a");
    for number in 0_u64.. {
        let issued = manager.create(&owner, crate::support::named("x")).await.unwrap();
        println!("created {}", issued.record().fingerprint());
        if number % 3 == 0 {
            manager.delete(&owner, &issued.record().id).await.unwrap();
            println!("deleted {}", issued.record().fingerprint());
        }
    }
}

/// `kill -9` at any moment: what was answered stays true. Keys are made and deleted by a process of
/// its own, which says each answer before the next call.
#[tokio::test]
async fn no_answered_creation_is_lost_and_no_deleted_key_revived_by_kill() {
    use tower_api_key::{Entry, Fingerprint, KeyStore as _, SqliteStore};
    let folder = Folder::new();
    let path = folder.path().join("keys.db");
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    let fingerprint = |hex: &str| {
        let mut bytes = [0; 8];
        for (byte, at) in bytes.iter_mut().zip((0..16).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        }
        Fingerprint::from_bytes(bytes)
    };
    for round in 0..100_u32 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "server::making_and_deleting_until_killed", "--nocapture"]);
        let mut program = Program::run(command.env(CHURN, &path));
        // Somewhere in the middle of the work, at another place each time.
        for _ in 0..5 + round * 7 % 60 {
            program.line(|_| true);
        }
        program.signal("-KILL");
        let (_, stdout, _) = program.end();
        for line in stdout.lines() {
            match line.split_once(' ') {
                Some(("created", hex)) if hex.len() == 16 => created.push(fingerprint(hex)),
                Some(("deleted", hex)) if hex.len() == 16 => deleted.push(fingerprint(hex)),
                _ => {}
            }
        }
    }
    assert!(created.len() > 1_000 && deleted.len() > 300, "{} {}", created.len(), deleted.len());
    let store = SqliteStore::open(&path).await.unwrap();
    for made in &created {
        let found = store.find(*made).await.unwrap();
        let was_deleted = deleted.contains(made);
        match found {
            Some(Entry::Live(_)) => assert!(!was_deleted, "revived"),
            Some(Entry::Ended(_)) => {}
            None => panic!("lost"),
        }
    }
}

/// Everything that the server says, stores or answers at `TRACE`, searched for every key that was
/// ever sent, with the one exception of the line that shows the first key.
#[tokio::test]
async fn no_output_no_file_and_no_answer_has_a_key() {
    let folder = Folder::new();
    let server = Server::start(folder.path(), &[]);
    let (valid, _) = server.first.clone().unwrap();
    let valid = valid.trim_start_matches("API-Key: ").trim_end();
    let mistyped = format!("{}!", &valid[..valid.len() - 1]);
    let unknown = "acme_live_000000000000000000000000000000000000000000003YtGRa".to_owned();
    let foreign = "sk_test_another_services_secret_0123456789".to_owned();
    let keys = [valid.to_owned(), mistyped, unknown, foreign];

    let mut answers = String::new();
    for key in &keys {
        for headers in [
            format!("API-Key: {key}\r\n"),
            format!("API-Key: {key}\r\nAPI-Key: {key}\r\n"),
            format!("API-Key: {key} {key}\r\n"),
            format!("X-API-Key: {key}\r\n"),
            format!("Authorization: Bearer {key}\r\n"),
            format!("API-Key: {key}\r\nAuthorization: Bearer {key}\r\n"),
        ] {
            for path in [
                "/v2/test",
                "/v2/bookings?limit=1",
                "/v2/webhooks",
                "/nowhere",
                "/v2/bookings?limit=x",
            ] {
                for answer in [
                    get(server.http, path, &headers).await,
                    get_tls(server.https, path, &headers).await,
                ] {
                    answers.push_str(&answer.head);
                    answers.push_str(&answer.body);
                }
            }
        }
    }
    assert!(answers.matches("HTTP/1.1 200").count() >= 3, "some were accepted");
    let hook = json!({ "name": "n", "url": "https://example.com/", "events": ["x"] });
    let header = format!("API-Key: {valid}\r\n");
    assert_eq!(server.call("POST", "/v2/webhooks", &header, Some(hook)).await.0, 201);

    server.program.signal("-TERM");
    let (code, stdout, stderr) = server.program.end();
    assert_eq!(code, Some(0));
    assert_eq!(stdout.matches(valid).count(), 1, "shown once: {stdout}");
    assert!(stderr.contains("TRACE") && stderr.contains("request refused"), "it was loud");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        files.push((path.display().to_string(), fs::read(path).unwrap()));
    }
    assert!(files.len() >= 4, "keys, webhooks, the certificate and its key");
    for key in &keys {
        // The random part alone would do to guess the rest.
        let part = &key[key.len() / 2..];
        assert!(!answers.contains(part), "answered");
        assert!(!stderr.contains(part), "logged");
        for (name, bytes) in &files {
            assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{name}");
        }
    }
}
