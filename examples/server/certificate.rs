//! The server's certificate: given, or self-signed and kept in the data folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Failure;
use crate::flags::Flags;

pub(crate) struct Certificate {
    pub(crate) path: PathBuf,
    pub(crate) config: RustlsConfig,
}

pub(crate) fn load_or_make(flags: &Flags) -> Result<Certificate, Failure> {
    let (cert, key) = match (&flags.cert, &flags.key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ => make_once(&flags.data_dir)?,
    };
    let chain = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect)
        .map_err(|error| format!("{}: {error}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_file(&key)
        .map_err(|error| format!("{}: {error}", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Certificate { path: cert, config: RustlsConfig::from_config(Arc::new(config)) })
}

/// The pair in the data folder; made when both are missing.
fn make_once(folder: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() != key.exists() {
        let folder = folder.display();
        return Err(format!("{folder}: has only one of cert.pem and key.pem").into());
    }
    if !cert.exists() {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names)?;
        write(&key, &made.signing_key.serialize_pem())?;
        write(&cert, &made.cert.pem())?;
    }
    Ok((cert, key))
}

/// Readable by its owner only, and whole or not there.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let unfinished = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let _ = fs::remove_file(&unfinished);
    let mut file = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(unfinished, path)?)
}
