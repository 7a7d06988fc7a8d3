//! No key and no digest in what is said, for as long as the tests run: looked for in every event of every crate at
//! `TRACE` and every panic of this process, in what a `support::Program` writes to stderr and in every answer that
//! `support::exchange` reads, but for the field that shows a new key. Whatever reads as a key with a good checksum
//! counts, whoever made it; of digests, the plain SHA-256 of every key that a test has read, or a program or an answer has shown to one. A
//! `Folder` is searched for whatever has the form of a key.
//!
//! Not looked at: answers that hyper, `reqwest`, `curl`, a browser, the fuzzer or an SDK of MCP reads, or that do not
//! leave the process; stdout, and what the command line says; digests in files, with a pepper, or as other systems
//! make them.
//!
//! What is found ends the process at once: a panic would be swallowed by the task that logs.

use std::collections::HashSet;
use std::io::Write;
use std::panic;
use std::sync::{LazyLock, RwLock};

use regex::bytes::Regex;
use sha2::{Digest as _, Sha256};
use tower_api_key::KeyText;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What follows the last `_` of a key, and what may stand before.
const TAIL: usize = 49;
const HEAD: usize = 40;

/// Before any test: listens to everything.
#[ctor::ctor(unsafe)]
fn begin() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(Witness)
        .finish();
    // What crates say by `log`, too.
    subscriber.try_init().expect("nobody listened before");
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        look_at("a panic", panic.to_string().as_bytes());
        before(panic);
    }));
}

/// Reads what is logged and keeps nothing.
#[derive(Clone, Copy)]
struct Witness;

impl Write for Witness {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        look_at("the log", line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Witness {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// The plain SHA-256 of the keys that tests know.
static DIGESTS: LazyLock<RwLock<HashSet<[u8; 32]>>> = LazyLock::new(RwLock::default);

/// Tells of a key that was made.
pub(crate) fn knows(key: &[u8]) {
    DIGESTS.write().unwrap().insert(Sha256::digest(key).into());
}

/// Keeps in mind the keys that are shown in this.
pub(crate) fn learn(shown: &[u8]) {
    keys_in(shown).for_each(knows);
}

/// Ends the tests if there is a key or a digest in this.
pub(crate) fn look_at(what: &str, said: &[u8]) {
    if let Some(found) = found_in(said) {
        eprintln!("{found} in {what}: {}", String::from_utf8_lossy(said));
        std::process::abort();
    }
}

/// As [`look_at`], for an answer, which may show one key to its owner.
pub(crate) fn look_at_answer(body: &str) {
    static SHOWN: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r#""api_key":"[^"]*""#).unwrap());
    for shown in SHOWN.find_iter(body) {
        learn(shown.as_str().as_bytes());
    }
    look_at("an answer", SHOWN.replace(body, "").as_bytes());
}

fn found_in(said: &[u8]) -> Option<&'static str> {
    if keys_in(said).next().is_some() {
        Some("a key")
    } else if has_digest(said) {
        Some("a digest")
    } else {
        None
    }
}

/// Wherever a `_` has 49 digits after it that are those of a key from somewhere before it on.
fn keys_in(said: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bars = said.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    bars.filter_map(|(bar, _)| Some((bar, said.get(bar + 1..=bar + TAIL)?)))
        .filter(|(_, tail)| tail.iter().all(u8::is_ascii_alphanumeric))
        .filter_map(|(bar, _)| {
            let mut texts = (bar.saturating_sub(HEAD)..bar).map(|start| &said[start..=bar + TAIL]);
            texts.find(|text| KeyText::parse(text).is_ok_and(KeyText::has_checksum))
        })
}

/// Whether a known digest is there, in hex, in Base64, or as Rust prints bytes.
fn has_digest(said: &[u8]) -> bool {
    static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?-u)[0-9A-Fa-f]{64}|[0-9A-Za-z+/_-]{43}=?|\[(?:\d{1,3}, ){31}\d{1,3}\]")
            .unwrap()
    });
    // Nothing shorter can be one.
    if said.len() < 43 {
        return false;
    }
    let known = DIGESTS.read().unwrap();
    SHAPES.find_iter(said).filter_map(|found| read(found.as_bytes())).any(|it| known.contains(&it))
}

fn read(text: &[u8]) -> Option<[u8; 32]> {
    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

    if let Some(list) = text.strip_prefix(b"[") {
        let numbers = std::str::from_utf8(list).ok()?.trim_end_matches(']').split(", ");
        let bytes: Result<Vec<u8>, _> = numbers.map(str::parse).collect();
        return bytes.ok()?.try_into().ok();
    }
    let mut digest = [0; 32];
    if hex::decode_to_slice(text, &mut digest).is_ok() {
        return Some(digest);
    }
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let standard = BASE64_STANDARD_NO_PAD.decode(text).ok();
    standard.or_else(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok())?.try_into().ok()
}

#[tokio::test]
async fn what_is_looked_for_is_found() {
    let (_, key) = crate::support::with_key(tower_api_key::MemoryStore::new()).await;
    let digest: [u8; 32] = Sha256::digest(&key).into();
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, digest);
    for said in [
        key.clone(),
        format!("key={key}"),
        format!("x{key}9"),
        format!("{{\"api-key\": \"{key}\"}}\n"),
        format!("%2Facme_{key}%2F"),
    ] {
        assert_eq!(found_in(said.as_bytes()), Some("a key"), "{said}");
    }
    for said in [
        hex::encode(digest),
        format!("digest={}", hex::encode_upper(digest)),
        format!("digest: {base64}, and more"),
        format!("KeyDigest({digest:?})"),
    ] {
        assert_eq!(found_in(said.as_bytes()), Some("a digest"), "{said}");
    }
    let shown = crate::support::with_key(tower_api_key::MemoryStore::new()).await.1;
    let (plain, escaped) = (format!("API-Key: {shown}'\n"), format!("x_{shown}"));
    assert_eq!(keys_in(plain.as_bytes()).collect::<Vec<_>>(), [shown.as_bytes()]);
    assert_eq!(keys_in(escaped.as_bytes()).collect::<Vec<_>>(), [shown.as_bytes()]);
    let mistyped =
        format!("{}{}", &key[..key.len() - 1], if key.ends_with('0') { '1' } else { '0' });
    let short = &key[..key.len() - 1];
    for said in
        [&mistyped[..], short, &hex::encode(&digest[..31]), "key_01jd0000000000000000000000"]
    {
        assert_eq!(found_in(said.as_bytes()), None, "{said}");
    }
}

/// The search of the folders, whose finds `tests/run.sh` reports.
#[tokio::test]
async fn a_key_that_a_test_leaves_in_a_file_is_found() {
    let folder = crate::servers::folder::Folder::new();
    let (_, key) = crate::support::with_key(tower_api_key::MemoryStore::new()).await;
    let (searched, finds) = (folder.path().join("searched"), folder.path().join("finds"));
    std::fs::create_dir_all(searched.join("deep")).unwrap();
    let search = || {
        let script = ["-c", crate::servers::folder::SEARCH, "search"];
        let mut shell = std::process::Command::new("sh");
        let _ = shell.args(script).args([&searched, &finds]).status().unwrap();
        std::fs::read_to_string(&finds).unwrap()
    };
    std::fs::write(searched.join("fine"), "key_01jd0000000000000000000000 acme_live_").unwrap();
    assert_eq!(search(), "");
    let page = [b"\0\x01\xff".as_slice(), key.as_bytes(), b"\xfe\0"].concat();
    std::fs::write(searched.join("deep").join("page"), page).unwrap();
    assert!(search().contains(&key));
    // Or it would be found here, too.
    std::fs::remove_dir_all(&searched).unwrap();
    std::fs::remove_file(&finds).unwrap();
}

/// As that of a server which all tests share: its end comes with that of the tests, and nobody drops it.
#[test]
fn a_folder_that_nobody_drops_is_searched_when_the_tests_have_ended() {
    const CHILD: &str = "TOWER_API_KEY_TEST_LEAVES_A_KEY";
    let key = format!("acme_live_{}", "0".repeat(49));
    if std::env::var_os(CHILD).is_some() {
        let folder = crate::servers::folder::Folder::new();
        std::fs::write(folder.path().join("log"), &key).unwrap();
        std::mem::forget(folder);
        return;
    }
    let searches = tempfile::tempdir().unwrap();
    let test = "witness::a_folder_that_nobody_drops_is_searched_when_the_tests_have_ended";
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CHILD, "")
        .env(crate::servers::folder::SEARCHES, searches.path())
        .output()
        .unwrap();
    assert!(ended.status.success());
    let searching = searches.path().join("searching");
    let mut tries = 0..600;
    while std::fs::read_dir(&searching).unwrap().next().is_some() {
        assert!(tries.next().is_some(), "still searched");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let found = std::fs::read_to_string(searches.path().join("keys-found")).unwrap();
    assert!(found.contains(&key));
}

/// Everything that is logged comes by here, also what a test listens to.
#[test]
fn whoever_logs_a_key_ends_the_tests() {
    const CHILD: &str = "TOWER_API_KEY_TEST_LOGS_A_KEY";
    let how = std::env::var(CHILD).unwrap_or_default();
    let key = "acme_live_0000000000000000000000000000000000000000000";
    let key = format!("{key}{}", String::from_utf8(crc(key.as_bytes()).to_vec()).unwrap());
    match &how[..] {
        "log" => tracing::trace!(key),
        "captured" => {
            let (_log, _guard) = crate::support::Log::capture();
            tracing::trace!(key);
        }
        "panic" => drop(panic::catch_unwind(|| panic!("{key}"))),
        "quiet" => tracing::trace!("nothing"),
        _ => {
            for (how, is_fine) in
                [("log", false), ("captured", false), ("panic", false), ("quiet", true)]
            {
                let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
                let name = "witness::whoever_logs_a_key_ends_the_tests";
                let said = tests.args(["--exact", name, "--nocapture"]).env(CHILD, how).output();
                assert_eq!(said.unwrap().status.success(), is_fine, "{how}");
            }
        }
    }
}

/// The checksum of a key, in six base62 digits.
fn crc(body: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut sum = !body.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg())
        })
    });
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    digits
}
