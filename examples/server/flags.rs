//! The server's flags.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::mcp::PublicHost;

/// Who else writes to the store.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Cache {
    Shared,
    Alone,
}

/// A whole service behind API keys.
#[derive(clap::Parser)]
pub(crate) struct Flags {
    /// Where to serve HTTPS; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub(crate) https_addr: SocketAddr,

    /// Where to listen for plain HTTP, which is refused (but see --trusted-proxy).
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) http_addr: SocketAddr,

    /// Keys, webhooks and the certificate.
    #[arg(long, default_value = "./server-data")]
    pub(crate) data_dir: PathBuf,

    /// memory: | sqlite:PATH | postgres://… | redis://… (rediss:// with TLS); without it, a SQLite
    /// file in the data folder.
    #[arg(long)]
    store: Option<Store>,

    /// Answer from memory what the store has said in the last 30 seconds: "shared" where other servers
    /// use the same store, all with this; "alone" where none does.
    #[arg(long)]
    pub(crate) cache: Option<Cache>,

    /// The certificate chain, in PEM; without it, a self-signed one is made.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// The certificate's private key, in PEM.
    #[arg(long, requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// A proxy, or a CIDR block of them, whose X-Forwarded-Proto the plain port believes. Repeatable.
    #[arg(long, value_name = "CIDR")]
    pub(crate) trusted_proxy: Vec<String>,

    /// The trusted proxies set X-Forwarded-For, or append to it: it says where requests come from.
    #[arg(long, requires = "trusted_proxy")]
    pub(crate) x_forwarded_for: bool,

    /// A name under which MCP clients reach this server, beside its addresses and localhost: with a port
    /// if they write one. Repeatable.
    #[arg(long, value_name = "NAME[:PORT]")]
    pub(crate) public_host: Vec<PublicHost>,
}

/// Where the keys are.
#[derive(Clone)]
pub(crate) enum Store {
    Memory,
    Sqlite(PathBuf),
    Postgres(String),
    Redis(String),
}

impl FromStr for Store {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(text.to_owned())),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(text.to_owned())),
            _ => Err("expected memory:, sqlite:PATH, postgres://… or redis://…"),
        }
    }
}

impl Flags {
    pub(crate) fn store(&self) -> Store {
        self.store.clone().unwrap_or_else(|| Store::Sqlite(self.data_dir.join("keys.db")))
    }

    /// Webhooks last as long as the keys of their accounts.
    pub(crate) fn webhooks_file(&self) -> Option<PathBuf> {
        match self.store() {
            Store::Memory => None,
            _ => Some(self.data_dir.join("webhooks.json")),
        }
    }
}

/// Only its owner may look into a new data folder.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
