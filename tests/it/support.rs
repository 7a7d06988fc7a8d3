//! What several tests need: keys, requests over sockets, captured logs, example programs.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_api_key::{
    AccountId, ApiKeyLayer, IssuedKey, KeyDigest, KeyManager, KeyRecord, KeyRegistry, KeyText,
    MemoryStore, NewKey, Transport, Written,
};

use crate::witness;

/// What a machine that has much else to do may take beside what is promised.
pub(crate) const BUSY: Duration = Duration::from_secs(2);

pub(crate) fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

pub(crate) fn named(name: &str) -> NewKey {
    NewKey::new(name.parse().unwrap())
}

/// A manager over `store`, and a key of `admin@example.com`.
pub(crate) async fn with_key(store: impl KeyRegistry) -> (KeyManager, String) {
    let manager = KeyManager::new(store, "acme".parse().unwrap());
    let issued = manager.create(&account("admin@example.com"), named("Production CRM")).await;
    (manager, text(issued.unwrap()))
}

pub(crate) fn text(issued: IssuedKey) -> String {
    let text = issued.reveal().as_str().to_owned();
    witness::knows(text.as_bytes());
    text
}

/// A time in whole milliseconds, as records have it.
pub(crate) fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A record of its own digest and id.
pub(crate) fn record(account: &AccountId, created_at: SystemTime) -> KeyRecord {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let digest = digest(&format!("record-{number}"));
    let id = format!("key_{number:020}").parse().unwrap();
    KeyRecord::new(id, account.clone(), "A name".parse().unwrap(), digest, created_at)
}

/// Files keys of an account that have expired at this time.
pub(crate) async fn file_expired(
    store: &MemoryStore,
    owner: &AccountId,
    at: SystemTime,
    many: usize,
) {
    for _ in 0..many {
        let mut expired = record(owner, at - Duration::from_secs(1));
        expired.expires_at = Some(at);
        let filed = store.insert(Arc::new(expired), usize::MAX).await.unwrap();
        assert!(matches!(filed, Written::Done(())));
    }
}

pub(crate) fn digest(text: &str) -> KeyDigest {
    KeyDigest::of(KeyText::parse(text.as_bytes()).unwrap())
}

/// What came back over a socket.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Writes bytes and reads until the other side closes.
pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> Answer {
    // The server may answer and close before it has read a request that it refuses.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes));
    // A peer that closes without TLS's goodbye has answered all the same.
    let _ = read.await.expect("an answer in time");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    witness::look_at("the head of an answer", head.as_bytes());
    witness::look_at_answer(body);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.unwrap_or(0), head: head.to_owned(), body: body.to_owned() }
}

/// `GET path` with header lines, on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> Answer {
    exchange(TcpStream::connect(address).await.unwrap(), &request("GET", path, headers)).await
}

pub(crate) async fn get_tls(address: SocketAddr, path: &str, headers: &str) -> Answer {
    exchange(tls(address).await, &request("GET", path, headers)).await
}

pub(crate) fn request(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n").into()
}

/// A TLS connection that speaks HTTP/1.1.
pub(crate) async fn tls(address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    tls_with(address, &[b"http/1.1"]).await
}

pub(crate) async fn tls_with(
    address: SocketAddr,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    tls_over(TcpStream::connect(address).await.unwrap(), protocols).await
}

pub(crate) async fn tls_over(
    socket: TcpStream,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()
}

/// TLS that has ended in this process before.
pub(crate) async fn seasoned_tls() -> Transport {
    let transport = Transport::tls();
    let layer = ApiKeyLayer::new(MemoryStore::new()).with_transport(transport.clone());
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = tower_api_key::tls::Acceptor::new(server_config());
        acceptor.accept(socket, layer.layer(inner)).await.unwrap()
    };
    let ((_, service), _) = tokio::join!(accept, tls(address));
    assert_eq!(service.oneshot(Request::new(())).await.unwrap().status(), 401, "it has no key");
    transport
}

pub(crate) fn server_config() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The tests ask whether TLS is there, not whose certificate it has; `curl --cacert` asks that.
#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// All that is logged on this thread while the guard lives, at `TRACE`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub(crate) fn lines(&self, part: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        witness::look_at("the log", bytes);
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a future and says so when it hangs.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), future).await.expect("it hangs")
}

/// An example of this crate as a process, killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
    /// The lines that were read so far.
    pub(crate) said: Vec<String>,
}

impl Program {
    pub(crate) fn start(example: &str, arguments: &[&str]) -> Self {
        Self::run(Command::new(path_of(example)).args(arguments).env("RUST_LOG", "trace"))
    }

    pub(crate) fn run(command: &mut Command) -> Self {
        Self::of(command.stdin(Stdio::null()))
    }

    /// With something to write to what it reads.
    pub(crate) fn run_with_input(command: &mut Command) -> (Self, ChildStdin) {
        let mut program = Self::of(command.stdin(Stdio::piped()));
        let input = program.child.stdin.take().unwrap();
        (program, input)
    }

    fn of(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, stdout) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                witness::learn(line.as_bytes());
                let _ = lines.send(line);
            }
        });
        let mut err = child.stderr.take().unwrap();
        let stderr = Some(std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = err.read_to_end(&mut text);
            witness::look_at("what a program says", &text);
            String::from_utf8_lossy(&text).into_owned()
        }));
        Self { child, stdout, stderr, said: Vec::new() }
    }

    /// Reads lines until one fits; that one.
    pub(crate) fn line(&mut self, fits: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.stdout.recv_timeout(Duration::from_secs(30));
            let Ok(line) = line else {
                let _ = self.child.kill();
                let stderr = self.stderr.take().unwrap().join().unwrap();
                panic!("the line never came; stdout {:?}, stderr {stderr}", self.said);
            };
            self.said.push(line.clone());
            if fits(&line) {
                return line;
            }
        }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    }

    /// Waits for the end: the exit code, all of stdout, all of stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let code = self.child.wait().unwrap().code();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        self.said.extend(self.stdout.iter());
        (code, self.said.join("\n"), stderr)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo, as from a shell. What it tells its tests would make it build some dependencies again, each time.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_MANIFEST")
            || name.to_string_lossy().starts_with("CARGO_PKG")
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The example's executable, built now if it is not up to date.
pub(crate) fn path_of(example: &str) -> PathBuf {
    programs().join("examples").join(example)
}

/// The operators' program, likewise.
pub(crate) fn path_of_cli() -> PathBuf {
    programs().join("tower-api-key")
}

fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // target/debug/deps/it-… → target/debug
        let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let target = profile.parent().unwrap().to_owned();
        let mut build = cargo();
        build.args(["build", "--examples", "--bins", "--all-features", "--target-dir"]).arg(target);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the examples do not build");
        profile
    })
}
