//! What GitHub's secret scanning says, signed by keys that are made here.

use std::sync::{Arc, LazyLock, Mutex};

use ::axum::Router;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_api_key::leaks::{GitHubKeys, GitHubReceiver};
use tower_api_key::{
    Exposure, Fingerprint, KeyEvent, KeyManager, KeyRegistry as _, KeyStore, KeyVerifier, Lookup,
    MemoryStore, StoreError, Written,
};

use crate::support::{Log, account, digest, named, soon, text};

/// GitHub's key here, and somebody else's.
static GITHUB: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_slice(&[7; 32]).unwrap());
static OTHER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_slice(&[8; 32]).unwrap());

fn list() -> Value {
    let public = p256::PublicKey::from(GITHUB.verifying_key());
    let pem = public.to_public_key_pem(LineEnding::LF).unwrap();
    json!({ "public_keys": [
        { "key_identifier": "of another kind", "key": "-----BEGIN PUBLIC KEY-----", "is_current": false },
        { "key_identifier": "github", "key": pem, "is_current": true },
    ]})
}

fn keys() -> GitHubKeys {
    GitHubKeys::from_json(list().to_string().as_bytes()).unwrap()
}

fn sign(key: &SigningKey, message: &[u8]) -> String {
    let signature: Signature = key.sign(message);
    BASE64_STANDARD.encode(signature.to_der())
}

fn findings(tokens: &[&str]) -> Vec<u8> {
    let finding = |token: &&str| {
        let url = "https://github.com/o/r/blob/main/.env";
        json!({ "token": token, "type": "acme_api_key", "url": url, "source": "content" })
    };
    Value::from(tokens.iter().map(finding).collect::<Vec<_>>()).to_string().into()
}

struct Fixture {
    store: MemoryStore,
    manager: KeyManager,
    receiver: GitHubReceiver,
    heard: Arc<Mutex<Vec<String>>>,
}

fn fixture() -> Fixture {
    let store = MemoryStore::new();
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&heard);
    let receiver = GitHubReceiver::new(KeyVerifier::new(store.clone()), async || Ok(keys()))
        .with_events(move |event: &KeyEvent<'_>| {
            if let KeyEvent::Exposed { key, exposure: Exposure::Found { url, source, .. } } = event
            {
                noted.lock().unwrap().push(format!("{} {url:?} {source:?}", key.name));
            }
        });
    Fixture { store, manager, receiver, heard }
}

impl Fixture {
    async fn key(&self, name: &str) -> String {
        text(self.manager.create(&account("a"), named(name)).await.unwrap())
    }

    async fn names(&self) -> Vec<String> {
        let records = self.manager.list(&account("a")).await.unwrap();
        let mut names: Vec<_> = records.iter().map(|record| record.name.to_string()).collect();
        names.sort();
        names
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A message with these headers.
async fn send(
    receiver: &GitHubReceiver,
    headers: Headers<'_>,
    message: impl Into<Bytes>,
) -> (StatusCode, Value) {
    let app: Router = Router::new().route("/github", receiver.clone().into_route());
    let mut request = Request::post("/github").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(message.into())).unwrap();
    let response = soon(app.oneshot(request)).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A message that GitHub sends.
async fn github(receiver: &GitHubReceiver, message: &[u8]) -> (StatusCode, Value) {
    let signature = sign(&GITHUB, message);
    let headers = [
        ("Github-Public-Key-Identifier", "github"),
        ("Github-Public-Key-Signature", signature.as_str()),
    ];
    send(receiver, &headers, message.to_owned()).await
}

fn label(token: &str, label: &str) -> Value {
    let hash: String = digest(token)
        .as_bytes()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    json!({ "token_hash": hash, "token_type": "acme_api_key", "label": label })
}

#[tokio::test]
async fn a_key_that_was_found_is_told_of_and_goes_on_working() {
    let (log, _guard) = Log::capture();
    let fixture = fixture();
    let (key, _other) = (fixture.key("Found").await, fixture.key("Other").await);
    let unknown = {
        let other = self::fixture();
        other.key("x").await
    };
    let (status, answer) =
        github(&fixture.receiver, &findings(&[&unknown, &key, "acme_x", "no key"])).await;
    let expected = json!([
        label(&unknown, "false_positive"),
        label(&key, "true_positive"),
        label("acme_x", "false_positive"),
    ]);
    assert_eq!((status, answer), (StatusCode::OK, expected));
    let url = "https://github.com/o/r/blob/main/.env";
    assert_eq!(fixture.heard(), [format!("Found Some({url:?}) Some(\"content\")")]);
    assert_eq!(fixture.names().await, ["Found", "Other"]);
    assert_eq!(log.lines("a secret scanner found a key").len(), 1);
    for secret in [&key[5..], &unknown[5..], "acme_x"] {
        assert!(!log.text().contains(secret), "{}", log.text());
    }
}

#[tokio::test]
async fn a_key_that_was_found_is_dead_when_github_is_answered_and_a_repeat_is_harmless() {
    let fixture = fixture();
    let (key, _other) = (fixture.key("Found").await, fixture.key("Other").await);
    let receiver = fixture.receiver.clone().revoking(fixture.manager.clone());
    let message = findings(&[&key, &key]);
    for _ in 0..3 {
        let answer = json!([label(&key, "true_positive"), label(&key, "true_positive")]);
        assert_eq!(github(&receiver, &message).await, (StatusCode::OK, answer));
        assert_eq!(fixture.names().await, ["Other"]);
    }
    assert_eq!(fixture.heard().len(), 2, "only while it was a live key");
    let verifier = KeyVerifier::new(fixture.store.clone());
    assert!(verifier.verify(&key).await.is_err());
}

/// Keys that the layer would refuse for what they are used for are keys.
#[tokio::test]
async fn a_key_of_another_environment_is_found_too() {
    let fixture = fixture();
    let new = named("Found")
        .with_environment("test".parse().unwrap())
        .with_sources("10.0.0.0/8".parse().unwrap());
    let key = text(fixture.manager.create(&account("a"), new).await.unwrap());
    let verifier = KeyVerifier::new(fixture.store.clone())
        .with_environment("live".parse().unwrap())
        .with_required_scope("x".parse().unwrap());
    let receiver =
        GitHubReceiver::new(verifier, async || Ok(keys())).revoking(fixture.manager.clone());
    let (_, answer) = github(&receiver, &findings(&[&key])).await;
    assert_eq!(answer, json!([label(&key, "true_positive")]));
    assert_eq!(fixture.names().await, [""; 0]);
}

#[tokio::test]
async fn what_github_has_not_signed_is_not_believed() {
    let fixture = fixture();
    let key = fixture.key("Found").await;
    let receiver = fixture.receiver.clone().revoking(fixture.manager.clone());
    let message = findings(&[&key]);
    let (good, others) = (sign(&GITHUB, &message), sign(&OTHER, &message));
    let raw: Signature = GITHUB.sign(&message);
    let raw = BASE64_STANDARD.encode(raw.to_bytes());
    let mut tampered = message.clone();
    tampered.push(b' ');
    let (identifier, signature) = ("github-public-key-identifier", "github-public-key-signature");
    let cases: &[(Headers<'_>, &[u8])] = &[
        (&[], &message),
        (&[(identifier, "github")], &message),
        (&[(signature, &good)], &message),
        (&[(identifier, "another"), (signature, &good)], &message),
        (&[(identifier, "of another kind"), (signature, &good)], &message),
        (&[(identifier, "github"), (signature, &others)], &message),
        (&[(identifier, "github"), (signature, &raw)], &message),
        (&[(identifier, "github"), (signature, "")], &message),
        (&[(identifier, "github"), (signature, "no base64")], &message),
        (&[(identifier, "github"), (signature, &good)], &tampered),
        (&[(identifier, "github"), (signature, &good)], b""),
        // Before it is read, so that nobody else learns what can be read.
        (&[(identifier, "github"), (signature, &good)], b"no JSON"),
        (&[(identifier, "github"), (identifier, "github"), (signature, &good)], &message),
        (&[(identifier, "github"), (signature, &good), (signature, &good)], &message),
    ];
    let (log, _guard) = Log::capture();
    for (headers, message) in cases {
        let (status, answer) = send(&receiver, headers, message.to_vec()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
        assert_eq!(answer["message"], "The message is not signed with one of GitHub's keys.");
    }
    assert_eq!(log.lines("a message about leaks was refused").len(), cases.len());
    assert_eq!((fixture.heard().len(), fixture.names().await.len()), (0, 1));
    assert_eq!(github(&receiver, &message).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_github_has_signed_and_cannot_be_read_is_a_400_and_too_much_a_413() {
    let fixture = fixture();
    for text in ["", "{}", "[1]", "[{}]", r#"[{"token": 1, "type": "x"}]"#, "\u{0}", "[[[["] {
        let (status, _) = github(&fixture.receiver, text.as_bytes()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    }
    // What GitHub may add, and what it may leave out.
    let odd = br#"[{"token": "x", "type": "y", "more": {}, "url": null}]"#;
    assert_eq!(github(&fixture.receiver, odd).await.0, StatusCode::OK);
    assert_eq!(github(&fixture.receiver, b"[]").await, (StatusCode::OK, json!([])));
    let many = vec!["x"; 5_001];
    assert_eq!(github(&fixture.receiver, &findings(&many)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(github(&fixture.receiver, &findings(&many[1..])).await.0, StatusCode::OK);
    let long = vec![b' '; 1_048_577];
    assert_eq!(github(&fixture.receiver, &long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

/// Finds nothing, and cannot say so.
struct Down;

impl KeyStore for Down {
    fn find(&self, _: Fingerprint) -> Lookup {
        Lookup::ready(Err(StoreError::unavailable("test", "the disk is on fire")))
    }
}

#[tokio::test]
async fn while_the_store_or_githubs_keys_cannot_be_had_github_is_to_say_it_again() {
    let fixture = fixture();
    let key = fixture.key("Found").await;
    let message = findings(&[&key]);
    let (log, _guard) = Log::capture();
    let down = GitHubReceiver::new(KeyVerifier::new(Down), async || Ok(keys()));
    assert_eq!(github(&down, &message).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(log.lines("not all that GitHub found could be dealt with").len(), 1);
    let verifier = KeyVerifier::new(fixture.store.clone());
    let keyless = GitHubReceiver::new(verifier, async || Err("no network".into()));
    let keyless = keyless.revoking(fixture.manager.clone());
    assert_eq!(github(&keyless, &message).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(log.lines("GitHub's keys cannot be had").len(), 1);
    assert_eq!(fixture.names().await, ["Found"]);
}

#[tokio::test]
async fn an_address_that_holds_the_key_is_not_passed_on() {
    let (log, _guard) = Log::capture();
    let fixture = fixture();
    let key = fixture.key("Found").await;
    let message = json!([{
        "token": key, "type": "x",
        "url": format!("https://example.com/?api_key={key}"), "source": format!("url {key}"),
    }]);
    assert_eq!(github(&fixture.receiver, message.to_string().as_bytes()).await.0, StatusCode::OK);
    assert_eq!(fixture.heard(), ["Found None None"]);
    assert!(!log.text().contains(&key[5..]));
}

#[test]
fn a_list_of_keys_is_read_or_refused() {
    assert_eq!(format!("{:?}", keys()), r#"["github"]"#);
    for text in [
        "",
        "{}",
        "[]",
        r#"{"public_keys": []}"#,
        r#"{"public_keys": [{"key_identifier": "x", "key": "y"}]}"#,
    ] {
        assert!(GitHubKeys::from_json(text.as_bytes()).is_err(), "{text}");
    }
}

/// It may well be a key: GitHub must not be told that there is nothing to do.
#[tokio::test]
async fn a_key_whose_digest_is_made_in_a_way_that_the_receiver_was_not_told_of_is_asked_for_again()
{
    let fixture = fixture();
    let key = fixture.key("x").await;
    let [record] = fixture.manager.list(&account("a")).await.unwrap().try_into().unwrap();
    let (store, at) = (&fixture.store, record.created_at);
    let peppered = digest("peppered");
    let written =
        store.rehash(&record.account, &record.id, record.fingerprint(), peppered, at).await;
    assert!(matches!(written.unwrap(), Written::Done(_)));
    let receiver = fixture.receiver.clone().revoking(fixture.manager.clone());
    let (status, _) = github(&receiver, &findings(&[&key])).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}
