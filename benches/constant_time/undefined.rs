//! The verify path with its secrets marked as undefined, for valgrind's memcheck to watch: it reports every
//! branch and every address that depends on one of them.
//!
//! | run | secret | made public, and why |
//! | --- | --- | --- |
//! | `hash`, `pepper` | the presented text, after its form was checked; the pepper | nothing, but the digest when all is done |
//! | `compare` | the stored digest, but its fingerprint and its last byte | nothing: the last byte differs, so it is known that the answer is no |
//! | `accept`, `refuse`, the same `-peppered` and `-any` | the presented text, the whole stored digest, the pepper | the fingerprint that is looked up; in `constant_time.supp`, the text's form and checksum, and the answer |
//!
//! What is public is so by design. A text's form (its length, that it is visible ASCII, that its checksum is
//! right) is known to whoever sent it; `-any` are the runs of a layer that takes texts without a checksum. A
//! fingerprint is what stores index by and what logs show; the 24 bytes after it prove the key. The answer is
//! what the client gets.
//!
//! The presented text comes with its form checked in `hash` and `pepper`, because between checking and
//! hashing nothing of this program runs in the layer.

use std::hint::black_box;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderValue, Request, StatusCode};
use tower::{Layer as _, Service as _};
use tower_api_key::{
    ApiKeyLayer, Fingerprint, Hashing, KeyDigest, KeyFormat, KeyRecord, KeyRegistry as _, KeyStore,
    KeyText, Lookup, MemoryStore, Pepper, Transport, Written,
};

use crate::call::{Inner, now};
use crate::memcheck::{are_secret, classify, declassified, declassify, listens, reports};

/// As this crate makes them: with its checksum.
const KEY: &str = "acme_live_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG1Ixjw9";
const PEPPER: [u8; 32] = *b"thirty-two bytes from the vault.";

/// The runs; the last three are controls.
pub const RUNS: [&str; 12] = [
    "hash",
    "pepper",
    "compare",
    "accept",
    "refuse",
    "accept-peppered",
    "refuse-peppered",
    "accept-any",
    "refuse-any",
    "equals",
    "early-exit",
    "table",
];

/// Does one of the runs; `false` if there is none of that name.
pub fn run(name: &str) -> bool {
    let (plain, checked) = (Hashing::default, KeyFormat::default());
    match name {
        "hash" => hash(&plain()),
        "pepper" => hash(&peppered(classify)),
        "compare" => compare(),
        "accept" => verify(&plain(), plain(), checked, true),
        "refuse" => verify(&plain(), plain(), checked, false),
        "accept-peppered" => verify(&peppered(|_| {}), peppered(classify), checked, true),
        "refuse-peppered" => verify(&peppered(|_| {}), peppered(classify), checked, false),
        "accept-any" => verify(&plain(), plain(), KeyFormat::Any, true),
        "refuse-any" => verify(&plain(), plain(), KeyFormat::Any, false),
        "equals" => control(|ours, theirs| ours == theirs),
        "early-exit" => control(stops_at_the_first_difference),
        "table" => control(|ours, theirs| last_hex_digit(ours) == last_hex_digit(theirs)),
        _ => return false,
    }
    let said = if listens() { format!("{} reports", reports()) } else { "not watched".to_owned() };
    println!("{name}: {said}; {}", sha_256());
    true
}

/// Which SHA-256 it was. The one in software uses neither tables nor branches; the processor's instructions
/// take the same time for all data.
fn sha_256() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("sha") {
        return "SHA-256 by the processor's instructions";
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("sha2") {
        return "SHA-256 by the processor's instructions";
    }
    "SHA-256 in software"
}

fn hash(hashing: &Hashing) {
    let text = KEY.as_bytes().to_vec();
    let key = KeyText::parse(&text).unwrap();
    classify(&text);
    let made = black_box(hashing.digest(key));
    assert!(are_secret(made.as_bytes()), "what is made of a secret is one");
    declassify(&text);
}

fn compare() {
    let mut digest = *digest(&Hashing::default()).as_bytes();
    digest[31] ^= 0x80;
    let (store, record) = store(digest);
    classify(&record.digest.as_bytes()[8..31]);
    assert_eq!(answer(ApiKeyLayer::new(store), request()), StatusCode::UNAUTHORIZED);
}

/// Everything at once: `hashing` and `secret` are the same, but that the latter's pepper is marked.
fn verify(hashing: &Hashing, secret: Hashing, format: KeyFormat, is_known: bool) {
    let mut digest = *digest(hashing).as_bytes();
    digest[31] ^= u8::from(!is_known);
    let (store, record) = store(digest);
    let layer = ApiKeyLayer::new(PublicFingerprints(store)).with_key_format(format);
    let request = request();
    classify(request.headers()["api-key"].as_bytes());
    classify(record.digest.as_bytes());
    let status = answer(layer.with_hashing(secret), request);
    assert!(are_secret(record.digest.as_bytes()));
    assert_eq!(status, if is_known { StatusCode::OK } else { StatusCode::UNAUTHORIZED });
}

/// A comparison that is not in constant time: memcheck must report it.
fn control(compare: fn(&[u8; 32], &[u8; 32]) -> bool) {
    let (ours, theirs) = (digest(&Hashing::default()), digest(&Hashing::default()));
    classify(&theirs.as_bytes()[8..]);
    assert!(compare(black_box(ours.as_bytes()), black_box(theirs.as_bytes())));
}

fn stops_at_the_first_difference(ours: &[u8; 32], theirs: &[u8; 32]) -> bool {
    for (ours, theirs) in ours.iter().zip(theirs) {
        if black_box(ours) != black_box(theirs) {
            return false;
        }
    }
    true
}

/// Where in memory the digit is read depends on the byte; that digits are compared is no matter.
fn last_hex_digit(digest: &[u8; 32]) -> u8 {
    let [digit] = declassified([black_box(b"0123456789abcdef")[usize::from(digest[31] & 15)]]);
    digit
}

fn digest(hashing: &Hashing) -> KeyDigest {
    hashing.digest(KeyText::parse(KEY.as_bytes()).unwrap())
}

fn peppered(mark: fn(&[u8])) -> Hashing {
    let pepper = PEPPER.to_vec();
    mark(&pepper);
    Hashing::peppered(Pepper::new(pepper).unwrap())
}

/// A store of one record, and the record in it.
fn store(digest: [u8; 32]) -> (MemoryStore, Arc<KeyRecord>) {
    let (id, account, name) = ("key_1", "admin@example.com", "Production CRM");
    let (id, account, name) = (id.parse(), account.parse(), name.parse());
    let digest = KeyDigest::from_bytes(digest);
    let record = KeyRecord::new(
        id.unwrap(),
        account.unwrap(),
        name.unwrap(),
        digest,
        SystemTime::UNIX_EPOCH,
    );
    let record = Arc::new(record);
    let store = MemoryStore::new();
    let inserted = now(store.insert(Arc::clone(&record), 1));
    assert!(matches!(inserted, Ok(Written::Done(()))));
    (store, record)
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    request.headers_mut().insert("api-key", HeaderValue::from_str(KEY).unwrap());
    request
}

fn answer(layer: ApiKeyLayer, request: Request<()>) -> StatusCode {
    let layer = layer.with_transport(Transport::dangerously_assume_https());
    now(layer.layer(Inner).call(request)).unwrap().status()
}

/// A store that is asked for public fingerprints: of those that are made of a secret text, too.
struct PublicFingerprints(MemoryStore);

impl KeyStore for PublicFingerprints {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.0.find(Fingerprint::from_bytes(declassified(*fingerprint.as_bytes())))
    }
}
