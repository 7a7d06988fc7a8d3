//! A store of one's own: keys in a folder, one file a key, as a deployment tool could write them.
//! `cargo run --example custom_store`.
//!
//! Verification needs one method. The keys were made elsewhere, so the layer's check of this crate's
//! own key format is turned off.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tower_api_key::axum::protect;
use tower_api_key::{
    ApiKeyLayer, Entry, Fingerprint, Found, Identity, KeyDigest, KeyFormat, KeyRecord, KeyStore,
    KeyText, Lookup, StoreError, Transport,
};

/// `FOLDER/<fingerprint>.json` is `{"digest": [32 numbers], "account": "…", "name": "…"}`.
struct FolderStore(PathBuf);

#[derive(serde::Serialize, serde::Deserialize)]
struct KeyFile {
    digest: [u8; 32],
    account: String,
    name: String,
}

impl KeyStore for FolderStore {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let path = self.0.join(format!("{fingerprint}.json"));
        Lookup::waiting(async move { read(&path, fingerprint).await })
    }
}

/// No file is "no such key" (401). A file that cannot be read is "the store is broken" (503): a
/// customer must not be told that a good key is bad.
async fn read(path: &Path, fingerprint: Fingerprint) -> Found {
    let broken = |error: Box<dyn Error + Send + Sync>| StoreError::unavailable("folder", error);
    let text = match tokio::fs::read(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| broken(error.into()))?,
    };
    let file: KeyFile = serde_json::from_slice(&text).map_err(|error| broken(error.into()))?;
    let record = record(&file, fingerprint).map_err(broken)?;
    Ok(Some(Entry::Live(Arc::new(record))))
}

fn record(file: &KeyFile, id: Fingerprint) -> Result<KeyRecord, Box<dyn Error + Send + Sync>> {
    Ok(KeyRecord::new(
        id.to_string().parse()?,
        file.account.parse()?,
        file.name.parse()?,
        KeyDigest::from_bytes(file.digest),
        SystemTime::UNIX_EPOCH,
    ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let key = "partner-7/demonstration-only-key";
    write_key(folder.path(), key, "partner-7", "Nightly import")?;

    let layer = ApiKeyLayer::new(FolderStore(folder.path().to_owned()))
        .with_key_format(KeyFormat::Any)
        .with_transport(Transport::insecure_on_loopback());
    let app = protect(Router::new().route("/hello", get(hello)), layer);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = TcpListener::bind(address).await?;
    println!("curl -H 'API-Key: {key}' http://{}/hello", listener.local_addr()?);
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn hello(caller: Identity) -> String {
    format!("Hello, {}\n", caller.account())
}

/// What the deployment tool does: only the digest reaches the disk.
fn write_key(folder: &Path, key: &str, account: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let digest = KeyDigest::of(KeyText::parse(key.as_bytes())?);
    let file = KeyFile { digest: *digest.as_bytes(), account: account.into(), name: name.into() };
    let path = folder.join(format!("{}.json", digest.fingerprint()));
    Ok(std::fs::write(path, serde_json::to_vec(&file)?)?)
}
