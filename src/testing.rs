//! Keys for the tests of a service: a store in memory, a manager, a clock that is set by hand, and callers
//! who were verified like any other. Nothing here opens a way around the layer.
//!
//! A handler behind the layer, as it is served:
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, body::Body, http::{Request, StatusCode}, routing::get};
//! use tower::ServiceExt as _;
//! use tower_api_key::{Identity, axum::protect, testing::TestKeys};
//!
//! async fn hello(caller: Identity) -> String {
//!     format!("Hello, {}", caller.key_name())
//! }
//!
//! # #[tokio::main] async fn main() {
//! let keys = TestKeys::new();
//! let service = protect(Router::new().route("/hello", get(hello)), keys.layer());
//!
//! let request = Request::get("/hello").header("API-Key", keys.key("Production CRM").await);
//! let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), StatusCode::OK);
//!
//! let without_a_key = Request::get("/hello").body(Body::empty()).unwrap();
//! let response = service.oneshot(without_a_key).await.unwrap();
//! assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
//!
//! // The handler alone, with a caller of its own:
//! assert_eq!(hello(keys.identity("Staging").await).await, "Hello, Staging");
//! # }
//! ```
//!
//! What happens to keys, and what time does:
//!
//! ```
//! use std::time::Duration;
//! use tower_api_key::{NewKey, RejectionKind, testing::TestKeys};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let keys = TestKeys::new();
//! let in_an_hour = keys.now() + Duration::from_secs(3_600);
//! let new = NewKey::new("Import".parse()?).with_scopes("bookings:read".parse()?);
//! let key = keys.make("partner-7", new.with_expires_at(in_an_hour)).await;
//!
//! let verifier = keys.layer().verifier();
//! assert_eq!(verifier.verify(&key).await?.account().as_str(), "partner-7");
//! keys.clock().advance(Duration::from_secs(3_600));
//! assert_eq!(verifier.verify(&key).await.unwrap_err().kind(), RejectionKind::ExpiredKey);
//! # Ok(()) }
//! ```

#![allow(
    clippy::expect_used,
    reason = "for tests: a panic is the report, and says what the test did wrong"
)]

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;

use crate::clock::{Clock as _, ManualClock};
use crate::identity::Identity;
use crate::manage::{KeyManager, NewKey};
use crate::middleware::ApiKeyLayer;
use crate::record::AccountId;
use crate::store::MemoryStore;
use crate::transport::Transport;
use crate::verify::KeyVerifier;

/// A store with its manager, and keys by name, all of the account `test@example.com`. The clock stands in
/// May 2033. See the [module](self).
///
/// Every method panics where a test asks for what cannot be: a name that is none, an account that is full.
pub struct TestKeys {
    store: MemoryStore,
    manager: KeyManager,
    clock: ManualClock,
    account: AccountId,
    texts: Mutex<HashMap<String, String>>,
}

impl TestKeys {
    /// No keys yet. They begin with `test_`.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new() -> Self {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        let store = MemoryStore::new();
        let prefix = "test".parse().expect("a prefix");
        let manager = KeyManager::new(store.clone(), prefix).with_clock(clock.clone());
        let account = "test@example.com".parse().expect("an account");
        Self { store, manager, clock, account, texts: Mutex::default() }
    }

    /// The text of the key of this name, which is made when it is first asked for.
    ///
    /// # Panics
    ///
    /// When the name is none, or the account is full.
    pub async fn key(&self, name: &str) -> String {
        let mut texts = self.texts.lock().await;
        if let Some(text) = texts.get(name) {
            return text.clone();
        }
        let new = NewKey::new(name.parse().expect("a key's name"));
        let text = self.make(self.account.as_str(), new).await;
        texts.insert(name.to_owned(), text.clone());
        text
    }

    /// The text of a new key, of any account and with anything set.
    ///
    /// # Panics
    ///
    /// When the account is none, or full, or the key expires before it begins.
    pub async fn make(&self, account: &str, new: NewKey) -> String {
        let account = account.parse().expect("an account");
        let issued = self.manager.create(&account, new).await.expect("a new key");
        issued.reveal().as_str().to_owned()
    }

    /// Who calls with the key of this name: verified, as the layer does it that takes
    /// [any environment](ApiKeyLayer::with_any_environment).
    ///
    /// # Panics
    ///
    /// As [`key`](Self::key), and when that key was deleted or given another secret.
    pub async fn identity(&self, name: &str) -> Identity {
        self.identity_of(&self.key(name).await).await
    }

    /// Who calls with this key, of whatever account and environment.
    ///
    /// # Panics
    ///
    /// When it is not valid.
    pub async fn identity_of(&self, key: &str) -> Identity {
        let verifier = KeyVerifier::new(self.store.clone()).with_clock(self.clock.clone());
        verifier.with_any_environment().verify(key).await.expect("a valid key")
    }

    /// A layer over these keys, by this clock, that takes every connection for HTTPS, because a test has
    /// none. Set the rest as the service does: without an environment, keys that are bound to one are refused.
    pub fn layer(&self) -> ApiKeyLayer {
        ApiKeyLayer::new(self.store.clone())
            .with_clock(self.clock.clone())
            .with_transport(Transport::dangerously_assume_https())
    }

    /// The manager of these keys.
    #[must_use]
    pub fn manager(&self) -> &KeyManager {
        &self.manager
    }

    /// The store of these keys.
    #[must_use]
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// The account of the keys that are asked for by name.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The clock of the manager and the layer.
    #[must_use]
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The time, by that clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl Default for TestKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestKeys").field("account", &self.account).finish_non_exhaustive()
    }
}
