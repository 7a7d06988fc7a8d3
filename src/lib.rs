//! API keys for HTTP services: a `tower` layer that takes the `API-Key`
//! header of every request, refuses what did not come over HTTPS or has no valid key, and tells the
//! handler who is calling.
//!
//! ```
//! use tower_api_key::{ApiKeyLayer, KeyManager, MemoryStore, NewKey};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//!
//! // Management: make a key and show it, once.
//! let manager = KeyManager::new(store.clone(), "acme".parse()?);
//! let new = NewKey::new("Production CRM".parse()?).with_environment("live".parse()?);
//! let issued = manager.create(&"admin@example.com".parse()?, new).await?;
//! println!("Your API key, shown only now: {}", issued.reveal().as_str());
//!
//! // Verification: put the layer in front of any tower service.
//! let layer = ApiKeyLayer::new(store).with_environment("live".parse()?);
//! # let _ = layer;
//! # Ok(()) }
//! ```
//!
//! * Keys are kept only as their SHA-256, compared in constant time, and shown once: [`digest`],
//!   [`key`]. With a pepper, and keys of other systems: [`digest::hashing`], [`manage::import`].
//! * Whether a request came over HTTPS is a fact about its connection that no client can write:
//!   [`transport`].
//! * Every refusal that depends on the key is the same 401; a store that is down is a 503, never a
//!   401 and never a way in: [`middleware::response`].
//! * A deleted key is dead when `delete` returns, on every replica, also where each answers from memory:
//!   [`docs::replicas`]. 25 active keys an account is exact under any concurrency: [`manage`], [`store`].
//! * How much each key is used and from where, attempts with deleted ones among it, is counted off the
//!   request path: [`usage`]; what happens to keys is told: [`KeyEvents`].
//! * In axum, [`axum::protect`] leaves no route open, not even a 404. gRPC has answers of its own:
//!   [`middleware::grpc`].
//! * What stays open ends with its key: [`ends`]. Keys that others have seen are found and ended:
//!   [`leaks`]. Keys that came from elsewhere than a header are verified by a [`KeyVerifier`].
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | (none) | the layer, [`MemoryStore`], [`KeyManager`] |
//! | `axum` | the module `axum`: `protect`, extractors for [`Identity`] and `Option<Identity>` |
//! | `tls` | the module `tls`: acceptors for `axum-server` and for hyper with `tokio-rustls` |
//! | `sqlite` | `SqliteStore`: keys in one file |
//! | `postgres` | `PostgresStore`: keys in PostgreSQL, for any number of machines |
//! | `redis` | `RedisStore`: keys in Redis, likewise |
//! | `cache` | `CachedStore`: any of them, answered from memory, in one process or many |
//! | `import` | [`manage::import`]`::ImportRows::from_json_lines`: keys of another system |
//! | `manage-api` | the module `manage::api`: the management of keys as a JSON API |
//! | `page` | the module `manage::page`: the page on which an account's owner manages its keys |
//! | `openapi` | the module `manage::api::openapi`: the API's description |
//! | `limits` | [`limits`]`::{RateLimit, FailureBudget}`: how often keys are used, and tried that are none |
//! | `cli` | the program `tower-api-key`: create, list, rotate, delete, import, verify, from the command line |
//! | `metrics` | `Metrics`: key events as counters of the `metrics` facade |
//! | `leaks` | `leaks::GitHubReceiver`: what GitHub's secret scanning has found |
//! | `testing` | `testing::TestKeys`: keys for the tests of a service; [`store::contract`]: what every store promises, as tests for yours |
//!
//! # Map of the code
//!
//! The decision, in reading order: [`middleware`]`/service.rs` (`decide`, which asks all the others, and
//! `admit`; where the store has to be waited for, `future.rs` goes on; where nothing is refused yet,
//! `shadow.rs`), `extract.rs` (the one key in the headers), [`transport`] (was it HTTPS?), `verify.rs` (find,
//! compare, ask the policy; `verify/direct.rs` is [`KeyVerifier`]), `verify/search.rs` (under which digests),
//! [`key`], [`digest`], `policy.rs`, [`limits`], `identity.rs`, `rejection.rs`. Around it: `record.rs`,
//! `clock.rs`, `network.rs`, `logged.rs`, [`usage`], `upgrades.rs`, [`ends`], `events.rs`, `metrics.rs`,
//! [`leaks`], [`store`] and its leaves, [`manage`] with its two surfaces, `api` and `page`; for services,
//! `axum.rs`, `tls.rs` and `testing.rs`; for operators, the program in `src/bin`. Why it is so:
//! [`docs::design`]; what it does not do: [`docs::limitations`]; which store to take: [`docs::stores`]; many
//! processes: [`docs::replicas`]; which standards it keeps, and which tests say so: [`docs::standards`].
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod middleware;

mod extract;
pub mod transport;
mod verify;

pub mod digest;
pub mod key;

mod identity;
mod logged;
mod network;
mod policy;
mod rejection;

mod clock;
mod events;
#[cfg(feature = "metrics")]
mod metrics;
mod record;
mod upgrades;
pub mod usage;

pub mod ends;
pub mod leaks;
pub mod limits;
pub mod manage;
pub mod store;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub mod axum;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub mod tls;

pub mod docs {
    //! Why the crate is as it is, and what it is not.
    #[doc = include_str!("docs/design.md")]
    pub mod design {}
    #[doc = include_str!("docs/replicas.md")]
    pub mod replicas {}
    #[doc = include_str!("docs/limitations.md")]
    pub mod limitations {}
    #[doc = include_str!("docs/stores.md")]
    pub mod stores {}
    #[doc = include_str!("docs/standards.md")]
    pub mod standards {}
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use clock::Monotonic;
pub use clock::{Clock, ManualClock, SystemClock};
pub use digest::{AgentHash, Fingerprint, ForeignDigest, Hashing, KeyDigest, Pepper, Scheme};
pub use ends::{EndsSettings, KeyEnd, KeyEnds};
pub use events::{Exposure, KeyEvent, KeyEvents};
pub use extract::API_KEY;
pub use identity::Identity;
pub use key::{ApiKey, KeyFormat, KeyText, RevealedKey};
pub use manage::{
    DEFAULT_KEY_LIMIT, EXPIRED_KEY_LIMIT, IssuedKey, KeyManager, ManageError, NewKey, Principal,
};
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use metrics::Metrics;
pub use middleware::ApiKeyLayer;
pub use record::{
    AccountId, Actor, EndCause, Environment, Hint, IdempotencyKey, InvalidText, KeyId, KeyName,
    KeyPrefix, KeyRecord, Scope, Scopes, Sources, Tombstone,
};
pub use rejection::{Refusal, Rejection, RejectionKind};
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use store::SqliteStore;
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub use store::{CacheSettings, CachedStore, ReplicaStatus};
pub use store::{
    Change, Changes, Day, DayOfUse, Enrolled, Entry, Found, KeyRegistry, KeyStore, KeyUsage,
    Lookup, MemoryStore, NewSecret, ReplicaId, Roll, SharedRegistry, StoreError, Use, Version,
    Written,
};
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use store::{PostgresOptions, PostgresStore};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use store::{RedisOptions, RedisStore};
pub use transport::{Connection, InvalidProxies, Transport, TrustedProxies};
pub use upgrades::Upgrades;
pub use usage::{Usage, UsageSettings};
pub use verify::KeyVerifier;
