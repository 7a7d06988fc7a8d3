//! The keys that GitHub signs its messages with. Knows no HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;

/// GitHub's public keys for secret scanning, by their identifiers.
#[derive(Clone)]
pub struct GitHubKeys(Arc<HashMap<String, VerifyingKey>>);

/// The text is not GitHub's list of keys, or has none of them on the curve P-256.
#[derive(Debug, thiserror::Error)]
#[error("not GitHub's list of public keys, or none of P-256 in it")]
#[non_exhaustive]
pub struct InvalidGitHubKeys {
    source: Option<serde_json::Error>,
}

#[derive(serde::Deserialize)]
struct List {
    public_keys: Vec<Listed>,
}

#[derive(serde::Deserialize)]
struct Listed {
    key_identifier: String,
    key: String,
}

impl GitHubKeys {
    /// Reads what `https://api.github.com/meta/public_keys/secret_scanning` answers. Keys that are no longer
    /// current stay good: GitHub takes them off the list when they are not. Keys of kinds that this crate
    /// does not know are passed over.
    ///
    /// # Errors
    ///
    /// When it is another text, or no key is left.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidGitHubKeys> {
        let list: List = serde_json::from_slice(json)
            .map_err(|error| InvalidGitHubKeys { source: Some(error) })?;
        let keys: HashMap<_, _> = list.public_keys.into_iter().filter_map(Listed::read).collect();
        if keys.is_empty() {
            Err(InvalidGitHubKeys { source: None })
        } else {
            Ok(Self(Arc::new(keys)))
        }
    }

    /// Whether the message was signed with the key of this identifier: ECDSA over SHA-256, the signature in
    /// DER and base64.
    pub(super) fn have_signed(&self, identifier: &str, signature: &str, message: &[u8]) -> bool {
        let Some(key) = self.0.get(identifier) else { return false };
        let Ok(signature) = BASE64_STANDARD.decode(signature) else { return false };
        Signature::from_der(&signature)
            .is_ok_and(|signature| key.verify(message, &signature).is_ok())
    }
}

impl Listed {
    fn read(self) -> Option<(String, VerifyingKey)> {
        let key = VerifyingKey::from_public_key_pem(&self.key).ok()?;
        Some((self.key_identifier, key))
    }
}

impl std::fmt::Debug for GitHubKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
