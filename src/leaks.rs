//! Keys that others may have seen: how they are found, and what is done about them.
//!
//! # Finding them
//!
//! [`KeyPrefix::scanner_pattern`](crate::KeyPrefix::scanner_pattern) is the expression for secret scanners:
//! a custom pattern of GitHub's, a rule of gitleaks or trufflehog, a `git grep -P`. A text that was found is no
//! key unless it has a [good checksum](crate::KeyText::has_checksum):
//!
//! ```
//! use tower_api_key::{KeyPrefix, KeyText};
//!
//! let prefix: KeyPrefix = "acme".parse()?;
//! assert_eq!(prefix.scanner_pattern(), r"\bacme_(?:[a-z0-9]{1,16}_)?[0-9A-Za-z]{49}\b");
//!
//! let found = "acme_live_0000000000000000000000000000000000000000000000000";
//! assert!(!KeyText::parse(found.as_bytes())?.has_checksum(), "a false positive");
//! # Ok::<_, tower_api_key::InvalidText>(())
//! ```
//!
//! Who is a partner of GitHub's secret scanning is told of every key in public repositories: the feature
//! `leaks` has the receiver, [`GitHubReceiver`].
//!
//! # What to do about them
//!
//! Both the receiver and the layer, which sees valid keys that come in the clear, tell listeners of
//! [`KeyEvent::Exposed`](crate::KeyEvent::Exposed): to mail the owner, or to delete the key at once.
//! [`RevokeExposed`] does that:
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore, leaks::RevokeExposed};
//!
//! let store = MemoryStore::new();
//! let manager = KeyManager::new(store.clone(), "acme".parse()?);
//! let layer = ApiKeyLayer::new(store)
//!     .with_events(RevokeExposed::by(manager.acting_for("exposed keys".parse()?)));
//! # let _ = layer;
//! # Ok::<_, tower_api_key::InvalidText>(())
//! ```
//!
//! Whoever finds a key can end it, too, where the service mounts `axum::self_revoke` (feature `axum`).

#[cfg(feature = "leaks")]
mod github;
#[cfg(feature = "leaks")]
mod public_keys;
#[cfg(feature = "leaks")]
mod report;
mod revoke;

#[cfg(feature = "leaks")]
#[cfg_attr(docsrs, doc(cfg(feature = "leaks")))]
pub use github::GitHubReceiver;
#[cfg(feature = "leaks")]
#[cfg_attr(docsrs, doc(cfg(feature = "leaks")))]
pub use public_keys::{GitHubKeys, InvalidGitHubKeys};
pub use revoke::RevokeExposed;
