//! A Redis server.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::folder::Folder;
use super::process::Process;
use super::{free_port, left_out, local, present, program};

const TLS_PORT: &str = "--tls-port";

/// A server; its data is in memory unless its arguments say otherwise.
pub(crate) struct Redis {
    // In this order: the process ends before its folder goes.
    process: Mutex<Option<Process>>,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    folder: Folder,
}

impl Redis {
    /// A server of its own with more arguments, as `--appendonly yes`; or leaves the running test out.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        present(Self::with(arguments))
    }

    /// A server that speaks nothing but TLS, with this certificate and key.
    pub(crate) fn start_tls(certificate: &str, key: &str) -> Option<Self> {
        let folder = Folder::new();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (certificate, key) = (file("certificate.pem", certificate), file("key.pem", key));
        let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        let anyone = ["--tls-auth-clients", "no", "--port", "0", TLS_PORT, "$PORT"];
        // It has read the files when it answers.
        present(Self::with(&[&tls[..], &anyone[..]].concat()))
    }

    /// What makes every answered write outlive a kill.
    pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

    /// The one server of this process, for tests that leave it alive.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Redis, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::with(&[])).as_ref();
        shared.map_err(|reason| left_out(reason)).ok()
    }

    fn with(arguments: &[&str]) -> Result<Self, String> {
        let program =
            program("redis-server", &[]).ok_or("no Redis server found: install redis-server")?;
        let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
        let mut tries = 0..3;
        loop {
            let server = Self {
                process: Mutex::new(None),
                program: program.clone(),
                arguments: arguments.clone(),
                port: free_port(),
                folder: Folder::new(),
            };
            match server.run() {
                Ok(()) => return Ok(server),
                // Another process may have taken the port at the same moment.
                Err(said) => assert!(tries.next().is_some(), "{said}"),
            }
        }
    }

    fn run(&self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "yes", "--databases", "10000", "--dir"]);
        command.arg(self.folder.path());
        // The last of a setting counts, so that a test may say `--appendonly no`.
        for argument in &self.arguments {
            command.arg(argument.replace("$PORT", &self.port.to_string()));
        }
        let mut process = Process::start(&mut command, &self.log(), "KILL");
        process.until(|_| self.answers_ping())?;
        *self.process.lock().unwrap() = Some(process);
        Ok(())
    }

    /// Whether it has read its data and serves. One that wants a password says so only then.
    pub(crate) fn answers_ping(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(local(self.port)) else { return false };
        if self.arguments.iter().any(|argument| argument == TLS_PORT) {
            return true;
        }
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && [b"+PONG", b"-NOAU"].contains(&&answer)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the server said so far.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Where a database, by its number, is.
    pub(crate) fn url(&self, database: usize) -> String {
        Self::url_by(self.port, database)
    }

    /// The same by way of any port.
    pub(crate) fn url_by(port: u16, database: usize) -> String {
        format!("redis://127.0.0.1:{port}/{database}")
    }

    /// The URL of an empty database that nobody else uses.
    pub(crate) fn fresh_database(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        self.url(NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a line, and gives the answer as it came.
    pub(crate) async fn say(&self, line: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(local(self.port)).await.unwrap();
        stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        // The last is the one to `QUIT`.
        answer.strip_suffix("+OK\r\n").unwrap().trim_end().to_owned()
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) fn kill(&self) {
        let process = self.process.lock().unwrap().take();
        process.expect("it runs").kill();
    }

    /// Starts again after [`kill`](Self::kill), on the same port and data; returns when it is ready.
    pub(crate) fn restart(&self) {
        drop(self.process.lock().unwrap().take());
        self.run().unwrap();
    }

    /// Stops it without ending it: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").pause();
    }

    pub(crate) fn resume(&self) {
        self.process.lock().unwrap().as_ref().expect("it runs").resume();
    }
}
