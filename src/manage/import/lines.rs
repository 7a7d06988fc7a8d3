//! Rows from JSON Lines: one object on each line, read strictly. No error repeats what stands there.

use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::ImportRows;
use super::row::{ImportedKey, RefusedRow, RowRefusal};
use crate::digest::ForeignDigest;
use crate::record::{InvalidText, Scope, Scopes};

/// The longest line, in bytes: several times as long as a row can be.
const LONGEST: usize = 64 * 1024;

/// The fields of a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    account: String,
    name: String,
    id: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    sources: Vec<String>,
    created_at: Option<String>,
    expires_at: Option<String>,
    text: Option<String>,
    format: Option<Format>,
    digest: Option<String>,
    selector: Option<Selector>,
}

/// Databases give a number where it is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Selector {
    Text(String),
    Number(u64),
}

impl Selector {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Format {
    #[serde(rename = "sha256")]
    Whole256,
    #[serde(rename = "sha512")]
    Whole512,
    Sanctum,
    PrefixedApiKey,
}

impl ImportRows {
    /// Reads JSON Lines: an object on each line, and nothing on lines that are empty. What cannot be read is
    /// among the refused rows of the import.
    ///
    /// | field | what it is |
    /// | --- | --- |
    /// | `account`, `name` | whose key it is, and what it is called |
    /// | `text` | the key's text, or instead of it: |
    /// | `format` | `sha256` or `sha512` of the whole text, `sanctum`, `prefixed-api-key` |
    /// | `digest` | the digest in hex or Base64; of Django's `hashed_key` with its `sha512$$` before it |
    /// | `selector` | of `sanctum` the row's id, as a text or a number, of `prefixed-api-key` the short token |
    /// | `id`, `environment` | the record's id, and its environment: none, unless it is there |
    /// | `scopes`, `sources` | arrays of texts |
    /// | `created_at`, `expires_at` | times by RFC 3339 |
    ///
    /// A row of Sanctum's table, whose `abilities` mean nothing here unless they are given as `scopes`:
    ///
    /// ```json
    /// {"account": "customer@example.com", "name": "CRM", "format": "sanctum", "selector": 17, "digest": "5f16…", "created_at": "2024-01-31T10:00:00Z"}
    /// ```
    ///
    /// An unknown field, or one that is there twice, makes a row one that cannot be read. Each
    /// [`KeyName`](crate::KeyName), [`AccountId`](crate::AccountId) and so on keeps its own rules.
    ///
    /// ```
    /// use tower_api_key::manage::import::{Import, ImportRows};
    /// use tower_api_key::{KeyManager, MemoryStore};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let lines = r#"
    /// {"account": "a@example.com", "name": "CRM", "text": "k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1"}
    /// {"account": "a@example.com", "name": "CI", "format": "sha256", "digest": "DIGEST", "scopes": ["a"]}
    /// "#;
    /// # let lines = lines.replace("DIGEST", &"5a".repeat(32));
    /// let manager = KeyManager::new(MemoryStore::new(), "acme".parse()?);
    /// let report = manager.import(ImportRows::from_json_lines(&lines), &Import::default()).await?;
    /// assert_eq!(report.imported, 2);
    /// # Ok(()) }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "import")))]
    #[must_use]
    pub fn from_json_lines(text: &str) -> Self {
        let mut rows = Self::default();
        for (line, number) in text.trim_start_matches('\u{feff}').split('\n').zip(1..) {
            if line.trim().is_empty() {
                continue;
            }
            match read(line) {
                Ok(mut row) => {
                    row.line = number;
                    rows.rows.push(row);
                }
                Err(reason) => rows.refused.push(RefusedRow { line: number, reason }),
            }
        }
        rows
    }
}

fn read(line: &str) -> Result<ImportedKey, RowRefusal> {
    if line.len() > LONGEST {
        return Err(malformed("the line is too long"));
    }
    // What serde says may repeat what stands there, which may be a secret.
    let line: Line = serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        malformed(format!(
            "it is no JSON object with account, name and either text or format, digest and selector, and maybe id, environment, scopes, sources, created_at, expires_at, once each and of their types (column {column})"
        ))
    })?;
    let (account, name) = (valid(line.account.parse())?, valid(line.name.parse())?);
    let text = line.text.map(Zeroizing::new);
    let mut row = match (text, line.format, line.digest) {
        (Some(text), None, None) if line.selector.is_none() => {
            valid(ImportedKey::of_text(account, name, &text))?
        }
        (None, Some(format), Some(digest)) => {
            let selector = line.selector.map(Selector::into_text);
            let digest = foreign(format, &digest, selector.as_deref())?;
            ImportedKey::of_digest(account, name, digest)
        }
        _ => return Err(malformed("it must have either a text or a format and a digest")),
    };
    row.id = line.id.map(|id| valid(id.parse())).transpose()?;
    row.environment = line.environment.map(|name| valid(name.parse())).transpose()?;
    let scopes: Result<Vec<Scope>, _> = line.scopes.iter().map(|scope| scope.parse()).collect();
    row.scopes = valid(scopes.and_then(Scopes::new))?;
    if line.sources.iter().any(|source| source.is_empty() || source.contains(' ')) {
        // An empty list is anywhere; an empty text in it is a mistake.
        return Err(malformed("each of the sources must be one address or block"));
    }
    row.sources = valid(line.sources.join(" ").parse())?;
    row.created_at = line.created_at.map(|text| time("created_at", &text)).transpose()?;
    row.expires_at = line.expires_at.map(|text| time("expires_at", &text)).transpose()?;
    Ok(row)
}

fn foreign(
    format: Format,
    digest: &str,
    selector: Option<&str>,
) -> Result<ForeignDigest, RowRefusal> {
    if digest.starts_with("pbkdf2_") || digest.starts_with("bcrypt") || digest.starts_with("$2") {
        return Err(malformed("a slow password hash cannot be imported: make a new key"));
    }
    match (format, selector) {
        (Format::Whole256, None) => Ok(ForeignDigest::sha256(bytes(digest)?)),
        (Format::Whole512, None) => {
            Ok(ForeignDigest::sha512(bytes(digest.strip_prefix("sha512$$").unwrap_or(digest))?))
        }
        (Format::Sanctum, Some(id)) => valid(ForeignDigest::sanctum(id, bytes(digest)?)),
        (Format::PrefixedApiKey, Some(short)) => {
            valid(ForeignDigest::prefixed_api_key(short, bytes(digest)?))
        }
        (Format::Whole256 | Format::Whole512, Some(_)) => {
            Err(malformed("digests of this format have no selector"))
        }
        (Format::Sanctum | Format::PrefixedApiKey, None) => {
            Err(malformed("digests of this format need a selector"))
        }
    }
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], RowRefusal> {
    let mut bytes = [0; N];
    if hex::decode_to_slice(text, &mut bytes).is_ok() {
        return Ok(bytes);
    }
    let decoded = BASE64_STANDARD.decode(text).ok().and_then(|decoded| decoded.try_into().ok());
    decoded.ok_or_else(|| malformed(format!("the digest must be {N} bytes, in hex or Base64")))
}

fn time(field: &str, text: &str) -> Result<SystemTime, RowRefusal> {
    let time: Result<Timestamp, _> = text.parse();
    time.map(SystemTime::from).map_err(|_| malformed(format!("{field} must be a time by RFC 3339")))
}

fn valid<T>(parsed: Result<T, InvalidText>) -> Result<T, RowRefusal> {
    parsed.map_err(RowRefusal::Invalid)
}

fn malformed(what: impl Into<String>) -> RowRefusal {
    RowRefusal::Malformed(what.into())
}

#[cfg(test)]
mod tests;
