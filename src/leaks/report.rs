//! What GitHub reports and what it is answered, as JSON. Knows no HTTP.

use crate::digest::KeyDigest;
use crate::key::KeyText;

/// A text that looks like a key, and where it was found. Has no `Debug`: the text may be a key.
#[derive(serde::Deserialize)]
pub(super) struct Finding {
    token: String,
    #[serde(rename = "type")]
    kind: String,
    url: Option<String>,
    source: Option<String>,
}

/// What it was, for GitHub's statistics. Names the text by its SHA-256, in hexadecimal digits.
#[derive(serde::Serialize)]
pub(super) struct Label {
    token_hash: String,
    token_type: String,
    #[serde(rename = "label")]
    verdict: &'static str,
}

impl AsRef<str> for Finding {
    fn as_ref(&self) -> &str {
        &self.token
    }
}

impl Finding {
    /// Where it was found, unless that says the key itself.
    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.contains(&self.token))
    }

    /// What it was found in, likewise.
    pub(super) fn source(&self) -> Option<&str> {
        self.source.as_deref().filter(|source| !source.contains(&self.token))
    }

    /// Nothing for what can be no key of anybody's, by its length or its characters.
    pub(super) fn label(&self, is_key: bool) -> Option<Label> {
        let text = KeyText::parse(self.token.as_bytes()).ok()?;
        Some(Label {
            token_hash: hex::encode(KeyDigest::of(text).as_bytes()),
            token_type: self.kind.clone(),
            verdict: if is_key { "true_positive" } else { "false_positive" },
        })
    }
}
