//! The receiver of what GitHub's secret scanning has found. Believes nothing that GitHub has not signed.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::public_keys::GitHubKeys;
use super::report::{Finding, Label};
use crate::events::{Exposure, KeyEvent, KeyEvents, Listeners};
use crate::identity::Identity;
use crate::manage::{KeyManager, ManageError};
use crate::record::KeyRecord;
use crate::rejection::{Refusal, Rejection};
use crate::verify::KeyVerifier;

/// The longest message, in bytes.
const LONGEST: usize = 1_048_576;

/// The most findings in a message.
const MOST: usize = 5_000;

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";

type AskForKeys =
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<GitHubKeys, BoxError>> + Send>> + Send + Sync;
type BoxError = Box<dyn Error + Send + Sync>;

/// Receives the messages of GitHub's [secret scanning partner
/// program](https://docs.github.com/en/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program):
/// which texts that look like this service's keys are in public.
///
/// ```
/// use axum::Router;
/// use tower_api_key::leaks::{GitHubKeys, GitHubReceiver};
/// use tower_api_key::{ApiKeyLayer, KeyEvent, KeyManager, MemoryStore};
///
/// # async fn fetched_in_the_last_hour() -> std::io::Result<Vec<u8>> { Ok(vec![]) }
/// let store = MemoryStore::new();
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// // What https://api.github.com/meta/public_keys/secret_scanning answers: the service fetches and caches it.
/// let keys = async || Ok(GitHubKeys::from_json(&fetched_in_the_last_hour().await?)?);
///
/// // By the layer's own hashing and format: what the one takes for a key, the other must know for one.
/// let receiver = GitHubReceiver::new(layer.verifier(), keys)
///     .with_events(|event: &KeyEvent<'_>| println!("mail the owner: {event:?}"))
///     .revoking(manager.acting_for("GitHub".parse()?));
/// // Beside what `protect` gives, not behind it: GitHub has no key.
/// let app: Router = Router::new().route("/leaks/github", receiver.into_route());
/// # let _ = app;
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
///
/// Whatever the verifier refuses for other reasons (another environment, a missing scope, an expiry) is a
/// key all the same. Each key that is one is logged as a warning and told of as
/// [`KeyEvent::Exposed`](KeyEvent::Exposed) and, where the receiver [was told to](Self::revoking), deleted.
///
/// | case | answer |
/// | --- | --- |
/// | signed by GitHub | 200, and for each text whether it was a key, by its hash |
/// | no signature, an unknown key's, another message's | 403, and the message is not read |
/// | signed, and not the JSON that GitHub sends | 400 |
/// | more than 1 MiB, or than 5,000 texts | 413 |
/// | GitHub's keys cannot be had, or the store is down | 503: GitHub is to send it again |
///
/// A message that is sent again, by GitHub or by who saw it, does nothing that was not done: what was deleted
/// stays so. Listeners hear of a live key each time. What was begun is done to the end when the client goes
/// away.
#[derive(Clone)]
#[must_use]
pub struct GitHubReceiver {
    verifier: KeyVerifier,
    keys: Arc<AskForKeys>,
    manager: Option<KeyManager>,
    listeners: Listeners,
}

/// Why a message was not taken.
enum Refused {
    Unsigned,
    Malformed,
    TooLarge,
    Unreadable(BytesRejection),
    NoKeys(BoxError),
    Unavailable,
}

impl GitHubReceiver {
    /// Looks found texts up with `verifier`. `keys` is asked for GitHub's public keys for every message, and
    /// should have them at hand; it should not be made to fetch them more often than once in some minutes,
    /// because anybody can send messages.
    pub fn new<F>(verifier: KeyVerifier, keys: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<GitHubKeys, BoxError>> + Send + 'static,
    {
        let keys = Arc::new(move || Box::pin(keys()) as Pin<Box<_>>);
        Self { verifier, keys, manager: None, listeners: Listeners::default() }
    }

    /// Deletes every key that was found, through `manager`, before GitHub is answered. Without this, keys are
    /// told of and go on working.
    pub fn revoking(mut self, manager: KeyManager) -> Self {
        self.manager = Some(manager);
        self
    }

    /// Tells `listener` of every key that was found, beside those that were told to listen before.
    pub fn with_events(mut self, listener: impl KeyEvents) -> Self {
        self.listeners = self.listeners.and(listener);
        self
    }

    /// The endpoint: `POST`, and 405 for all else. To be mounted where no key is asked for.
    pub fn into_route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        let receive = async move |headers: HeaderMap, body: Result<Bytes, BytesRejection>| {
            self.receive(&headers, body).await.map(Json).map_err(Refused::log)
        };
        post(receive).layer(DefaultBodyLimit::max(LONGEST))
    }

    async fn receive(
        &self,
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Vec<Label>, Refused> {
        let message = body.map_err(Refused::Unreadable)?;
        self.check_signature(headers, &message).await?;
        let findings: Vec<Finding> =
            serde_json::from_slice(&message).map_err(|_| Refused::Malformed)?;
        if findings.len() > MOST {
            return Err(Refused::TooLarge);
        }
        let receiver = self.clone();
        let acting = tokio::spawn(async move { receiver.act(&findings).await });
        acting.await.unwrap_or(Err(Refused::Unavailable))
    }

    /// Over the bytes as they came, before anything is read into them.
    async fn check_signature(&self, headers: &HeaderMap, message: &[u8]) -> Result<(), Refused> {
        let (Some(identifier), Some(signature)) =
            (only_line(headers, IDENTIFIER), only_line(headers, SIGNATURE))
        else {
            return Err(Refused::Unsigned);
        };
        let keys = (self.keys)().await.map_err(Refused::NoKeys)?;
        let is_signed = keys.have_signed(identifier, signature, message);
        if is_signed { Ok(()) } else { Err(Refused::Unsigned) }
    }

    /// Does what is to be done about each finding, also when it cannot be done about all.
    async fn act(&self, findings: &[Finding]) -> Result<Vec<Label>, Refused> {
        let mut labels = Vec::with_capacity(findings.len());
        let mut failed = false;
        for (finding, verdict) in findings.iter().zip(self.verifier.verify_all(findings).await) {
            let is_key = match known(&verdict) {
                Known::Record(record) => {
                    failed |= self.act_on(record, finding).await.is_err();
                    true
                }
                Known::Ended => true,
                Known::NotOurs => false,
                Known::Unknown => {
                    failed = true;
                    continue;
                }
            };
            labels.extend(finding.label(is_key));
        }
        if let Some(manager) = &self.manager {
            manager.settle().await;
        }
        if failed { Err(Refused::Unavailable) } else { Ok(labels) }
    }

    async fn act_on(&self, key: &KeyRecord, found: &Finding) -> Result<(), ManageError> {
        let (url, source) = (found.url(), found.source());
        tracing::warn!(
            target: "tower_api_key",
            key_id = %key.id,
            key_name = key.name.as_str(),
            account = key.account.as_str(),
            ?url,
            ?source,
            "a secret scanner found a key"
        );
        let exposure = Exposure::found(url, source);
        self.listeners.tell(&KeyEvent::Exposed { key, exposure });
        let Some(manager) = &self.manager else { return Ok(()) };
        // Replicas are waited for once, when all are done.
        let revoked = manager.clone().without_settling().revoke(key).await;
        if let Err(error) = &revoked {
            let error = error as &dyn Error;
            tracing::error!(target: "tower_api_key", key_id = %key.id, error, "an exposed key was not revoked, and works");
        }
        revoked.map(drop)
    }
}

/// What is known of a text that was found.
enum Known<'a> {
    Record(&'a KeyRecord),
    Ended,
    NotOurs,
    Unknown,
}

fn known(verdict: &Result<Identity, Rejection>) -> Known<'_> {
    match verdict {
        Ok(identity) => Known::Record(identity.record()),
        // Also where it is known whose it was: it may have been given a digest that is not looked for here.
        Err(rejection) if rejection.kind().refusal() == Refusal::Unavailable => Known::Unknown,
        Err(rejection) => match (rejection.record(), rejection.key_id()) {
            (Some(record), _) => Known::Record(record),
            (None, Some(_)) => Known::Ended,
            (None, None) => Known::NotOurs,
        },
    }
}

/// The value of a header that is there once.
fn only_line<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.to_str().ok()
}

impl Refused {
    fn log(self) -> Self {
        match &self {
            Self::NoKeys(error) => {
                tracing::error!(target: "tower_api_key", error = &**error as &dyn Error, "GitHub's keys cannot be had: its message is refused");
            }
            Self::Unavailable => {
                tracing::error!(target: "tower_api_key", "not all that GitHub found could be dealt with: it is to say it again");
            }
            _ => {
                tracing::info!(target: "tower_api_key", status = %self.status(), "a message about leaks was refused");
            }
        }
        self
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unsigned => StatusCode::FORBIDDEN,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreadable(rejection) => rejection.status(),
            Self::NoKeys(_) | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(&self) -> &'static str {
        match self {
            Self::Unsigned => "The message is not signed with one of GitHub's keys.",
            Self::Malformed => "The message is not a list of findings.",
            Self::TooLarge | Self::Unreadable(_) => "The message is too long, or broke off.",
            Self::NoKeys(_) | Self::Unavailable => "Try again in a moment.",
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status();
        let message = Json(serde_json::json!({ "message": self.message() }));
        let mut response = (status, message).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

impl std::fmt::Debug for GitHubReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let revokes = self.manager.is_some();
        f.debug_struct("GitHubReceiver").field("revokes", &revokes).finish_non_exhaustive()
    }
}
