//! Keys that came from elsewhere than a request's headers: through a gateway, a queue, a file. The layer's
//! own verification, without the layer.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;

use super::{Verdict, Verifier};
use crate::clock::Clock;
use crate::digest::Hashing;
use crate::identity::Identity;
use crate::key::{KeyFormat, KeyText};
use crate::policy::Here;
use crate::record::{Environment, Scope};
use crate::rejection::{Rejection, RejectionKind};
use crate::store::KeyStore;

/// How many keys of one call are looked up at a time.
const AT_ONCE: usize = 32;

/// Verifies key texts, wherever they came from, exactly as the layer does: same form, same lookup, same
/// comparison in constant time, same policy, same time limit; a store that is down is a refusal of its own
/// ([`Refusal::Unavailable`](crate::Refusal::Unavailable)), never "unknown key".
///
/// For requests use [`ApiKeyLayer`](crate::ApiKeyLayer), which also asks whether the key came over HTTPS.
/// That cannot be asked of a text: who hands one in here answers for how it came. Nothing is counted, logged
/// or told to listeners; the [`Rejection`] says what to log, and must not be shown to whoever sent the key.
///
/// ```
/// use tower_api_key::{KeyManager, KeyVerifier, MemoryStore, NewKey, Refusal};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let new = NewKey::new("Nightly import".parse()?);
/// let key = manager.create(&"admin@example.com".parse()?, new).await?.reveal();
///
/// let verifier = KeyVerifier::new(store); // or `layer.verifier()`, with the layer's settings
/// let caller = verifier.verify(key.as_str()).await?;
/// assert_eq!(caller.account().as_str(), "admin@example.com");
///
/// let answers = verifier.verify_all(&["no key", key.as_str()]).await;
/// assert_eq!(answers[0].as_ref().unwrap_err().kind().refusal(), Refusal::InvalidKey);
/// assert!(answers[1].is_ok());
/// # Ok(()) }
/// ```
///
/// Needs a Tokio runtime with its timer where the store does not answer from memory. Every future may be
/// dropped at any point.
#[derive(Clone)]
#[must_use]
pub struct KeyVerifier(Verifier);

impl KeyVerifier {
    /// Verifies the keys of `store`.
    pub fn new(store: impl KeyStore) -> Self {
        Self(Verifier::new(Arc::new(store)))
    }

    /// With settings that were made already: the layer's.
    pub(crate) fn of(verifier: Verifier) -> Self {
        Self(verifier)
    }

    /// Which key texts are looked up at all; [`KeyFormat::Checked`] unless set.
    pub fn with_key_format(mut self, format: KeyFormat) -> Self {
        self.0.format = format;
        self
    }

    /// How digests of keys are made, as the layer and the manager are told; SHA-256 unless set.
    pub fn with_hashing(mut self, hashing: Hashing) -> Self {
        self.0.hashing = hashing;
        self
    }

    /// Refuses keys that are bound to another environment; unless it is said, all that are bound to any.
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.0.policy.environment = Here::In(environment);
        self
    }

    /// Takes the keys of every environment, for who looks at
    /// [`Identity::environment`](crate::Identity::environment) itself.
    pub fn with_any_environment(mut self) -> Self {
        self.0.policy.environment = Here::Anywhere;
        self
    }

    /// Refuses keys without the scope; said twice, those without both.
    pub fn with_required_scope(mut self, scope: Scope) -> Self {
        self.0.policy.scopes.push(scope);
        self
    }

    /// How long the store may take for one key; 750 ms unless set.
    pub fn with_store_timeout(mut self, limit: Duration) -> Self {
        self.0.store_timeout = limit;
        self
    }

    /// The clock by which keys expire; the system's unless set.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.0.clock = Arc::new(clock);
        self
    }

    /// Whose key this is. A key that may be used from certain addresses only is refused: see
    /// [`verify_from`](Self::verify_from).
    ///
    /// # Errors
    ///
    /// The layer's: see [`RejectionKind`].
    pub async fn verify(&self, text: &str) -> Result<Identity, Rejection> {
        self.decide(text.as_bytes(), None).await
    }

    /// Whose key this is, used from an address that the caller answers for.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub async fn verify_from(&self, text: &str, from: IpAddr) -> Result<Identity, Rejection> {
        self.decide(text.as_bytes(), Some(from)).await
    }

    /// What [`verify`](Self::verify) says of each text, in their order. At most 32 are looked up at a time, and
    /// each has the time limit to itself: over a store that is down this takes as many limits as there are
    /// thirty-twos of texts.
    pub async fn verify_all<T: AsRef<str>>(&self, texts: &[T]) -> Vec<Result<Identity, Rejection>> {
        let mut answers = Vec::with_capacity(texts.len());
        let mut waiting = FuturesOrdered::new();
        for text in texts {
            if waiting.len() == AT_ONCE {
                answers.extend(waiting.next().await);
            }
            waiting.push_back(self.decide(text.as_ref().as_bytes(), None));
        }
        while let Some(answer) = waiting.next().await {
            answers.push(answer);
        }
        answers
    }

    async fn decide(&self, text: &[u8], from: Option<IpAddr>) -> Result<Identity, Rejection> {
        if text.is_empty() {
            return Err(RejectionKind::MissingKey.into());
        }
        let key = KeyText::parse(text).map_err(|_| self.0.malformed())?;
        match self.0.verify(key, || from)? {
            Verdict::Valid(identity) => Ok(identity),
            Verdict::Waiting(mut lookup) => {
                poll_fn(|context| lookup.poll(&self.0, || from, context)).await
            }
        }
    }
}

impl fmt::Debug for KeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyVerifier(…)")
    }
}
