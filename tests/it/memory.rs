//! What is left of secrets in a process's memory after they were used: nothing that this crate put there.
//!
//! A process of its own makes a secret, tells it to the test, uses it and drops it. Then the test reads all
//! memory that the process can have written, as it would be in a core dump, and looks for the secret: for any
//! eight bytes of it in a row, as they were, and as SHA-256 and SHA-512 read them, four and eight at a time from behind.
//!
//! `tests/optimised.sh` runs this file alone, in optimised builds.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tower::ServiceExt as _;
use tower_api_key::{
    ApiKeyLayer, Hashing, KeyManager, KeyVerifier, MemoryStore, NewKey, Pepper, RevealedKey,
    Scheme, Transport,
};
use zeroize::Zeroizing;

/// Says to the process what it is to do. Its input is a line to the test, in both directions.
const TASK: &str = "TOWER_API_KEY_TEST_MEMORY";

/// How many bytes of a secret in a row are a trace of it.
const TRACE: usize = 8;

/// A process that has had a secret.
struct Holder {
    child: Child,
    told: Vec<u8>,
    _line: UnixStream,
}

impl Holder {
    /// Starts a process for a task, and waits until it has done it.
    fn of(task: &str) -> Self {
        let (mut line, its_end) = UnixStream::pair().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::the_process_that_is_searched", "--nocapture"])
            .env(TASK, task)
            .stdin(OwnedFd::from(its_end))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut length = [0];
        line.read_exact(&mut length).unwrap();
        let mut told = vec![0; length[0].into()];
        line.read_exact(&mut told).unwrap();
        line.read_exact(&mut length).unwrap();
        Self { child, told, _line: line }
    }

    /// The longest trace of a secret in the process's memory, in bytes, and where it begins.
    fn longest_trace(&self, secret: &[u8]) -> (usize, String) {
        traces(self.child.id(), secret).into_iter().max().unwrap_or_default()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The traces of a secret in a process's memory: how many bytes, and where they begin.
pub(crate) fn traces(process: u32, secret: &[u8]) -> Vec<(usize, String)> {
    let needles = needles(secret);
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut found = Vec::new();
    for map in maps.lines().filter(|map| is_written(map)) {
        let (range, name) = map.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let name = name.split(' ').next_back().unwrap();
        for trace in places(&memory, start, end, &needles).chunk_by(|one, next| one + 1 == *next) {
            found.push((trace.len() + TRACE - 1, format!("{:x} {name}", trace[0])));
        }
    }
    found
}

/// Whether the process can have written there. What it only reads (its program, its libraries) is as it is
/// on the disk, and in no core dump.
fn is_written(map: &str) -> bool {
    let mut fields = map.split_whitespace();
    let rights = fields.nth(1).unwrap();
    let file = fields.nth(2).unwrap();
    let is_kernels =
        ["[vvar]", "[vdso]", "[vsyscall]", "[vvar_vclock]"].iter().any(|its| map.ends_with(its));
    rights.starts_with('r') && (rights.contains('w') || file == "0") && !is_kernels
}

/// What is looked for.
fn needles(secret: &[u8]) -> BTreeSet<[u8; TRACE]> {
    let pieces = secret.windows(TRACE).map(|piece| piece.try_into().unwrap());
    pieces
        .flat_map(|piece: [u8; TRACE]| {
            let [mut by_fours, mut by_eights] = [piece; 2];
            by_fours.chunks_mut(4).for_each(<[u8]>::reverse);
            by_eights.reverse();
            [piece, by_fours, by_eights]
        })
        .collect()
}

/// Where in a part of a process's memory one of the needles is.
fn places(memory: &File, start: u64, end: u64, needles: &BTreeSet<[u8; TRACE]>) -> Vec<u64> {
    const WINDOW: u64 = 1 << 20;
    let mut begins = [false; 256];
    for needle in needles {
        begins[usize::from(needle[0])] = true;
    }
    let mut found = Vec::new();
    for at in (start..end).step_by(usize::try_from(WINDOW).unwrap()) {
        // So much more that nothing is missed between two windows.
        let length = (end - at).min(WINDOW + u64::try_from(TRACE).unwrap() - 1);
        let mut bytes = vec![0; length.try_into().unwrap()];
        memory.read_exact_at(&mut bytes, at).unwrap();
        for (place, piece) in bytes.windows(TRACE).enumerate() {
            if begins[usize::from(piece[0])] && needles.contains(piece) {
                found.push(at + u64::try_from(place).unwrap());
            }
        }
    }
    found
}

/// Not a test: what the tests start. Does nothing when it is run among them.
#[test]
fn the_process_that_is_searched() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut line = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let kept: (Option<RevealedKey>, Option<Hashing>) = runtime.block_on(async {
        match task.as_str() {
            "key" => drop(use_a_key(&mut line, Hashing::default()).await),
            "kept-key" => return (Some(use_a_key(&mut line, Hashing::default()).await), None),
            "peppered-key" => drop(use_a_key(&mut line, Hashing::peppered(pepper())).await),
            "asked-layer" => ask_a_layer(&mut line).await,
            "sha512" => use_a_foreign_key(&mut line, Scheme::sha512(), "").await,
            "sanctum" => use_a_foreign_key(&mut line, Scheme::sanctum(), "17|").await,
            "prefixed" => {
                let scheme = Scheme::prefixed_api_key("myco").unwrap();
                use_a_foreign_key(&mut line, scheme, "myco_BRTRKFsL_").await;
            }
            "pepper" => drop(use_a_pepper(&mut line).await),
            "kept-pepper" => return (None, Some(use_a_pepper(&mut line).await)),
            other => panic!("{other} is no task"),
        }
        (None, None)
    });
    drop(runtime);
    line.write_all(&[0]).unwrap();
    // Until the test has seen enough.
    let _ = line.read(&mut [0]);
    drop(kept);
}

/// Written as it is, without a buffer, so that no copy is made here.
fn tell(line: &mut UnixStream, secret: &[u8]) {
    line.write_all(&[secret.len().try_into().unwrap()]).unwrap();
    line.write_all(secret).unwrap();
}

/// A key is made, handed on and verified.
async fn use_a_key(line: &mut UnixStream, hashing: Hashing) -> RevealedKey {
    use_a_key_of(line, MemoryStore::new(), hashing).await
}

async fn use_a_key_of(line: &mut UnixStream, store: MemoryStore, hashing: Hashing) -> RevealedKey {
    let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
    let manager = manager.with_hashing(hashing.clone());
    let new = NewKey::new("Production CRM".parse().unwrap());
    let issued = manager.create(&"admin@example.com".parse().unwrap(), new).await.unwrap();
    let key = issued.reveal();
    tell(line, key.as_str().as_bytes());
    let verifier = KeyVerifier::new(store).with_hashing(hashing);
    verifier.verify(key.as_str()).await.unwrap();
    key
}

/// A key comes to a layer in a header, whose own bytes are wiped with it, and is accepted; then a part of it is
/// no key.
async fn ask_a_layer(line: &mut UnixStream) {
    let store = MemoryStore::new();
    let key = use_a_key_of(line, store.clone(), Hashing::default()).await;
    let handler = tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let layer = ApiKeyLayer::new(store).with_transport(Transport::dangerously_assume_https());
    for (length, status) in [(key.as_str().len(), 200), (key.as_str().len() - 1, 401)] {
        let wiped = Zeroizing::new(key.as_str().as_bytes()[..length].to_vec());
        let header = HeaderValue::from_maybe_shared(Bytes::from_owner(wiped)).unwrap();
        let request = Request::builder().header("API-Key", header).body(()).unwrap();
        let service = tower::Layer::layer(&layer, handler);
        assert_eq!(service.oneshot(request).await.unwrap().status(), status);
    }
}

/// A key of another system, which nobody has filed, is looked for.
async fn use_a_foreign_key(line: &mut UnixStream, scheme: Scheme, beginning: &str) {
    let mut text = Zeroizing::new([0_u8; 64]);
    text[..beginning.len()].copy_from_slice(beginning.as_bytes());
    File::open("/dev/urandom").unwrap().read_exact(&mut text[beginning.len()..]).unwrap();
    for byte in &mut text[beginning.len()..] {
        *byte = b'a' + *byte % 26;
    }
    tell(line, &text[beginning.len()..]);
    let hashing = Hashing::default().accepting(scheme);
    let verifier = KeyVerifier::new(MemoryStore::new()).with_hashing(hashing);
    let text = str::from_utf8(&*text).unwrap();
    assert!(verifier.verify(text).await.is_err());
}

fn pepper() -> Pepper {
    let mut pepper = vec![0; 64];
    File::open("/dev/urandom").unwrap().read_exact(&mut pepper).unwrap();
    Pepper::new(pepper).unwrap()
}

/// Keys are made and verified with a pepper.
async fn use_a_pepper(line: &mut UnixStream) -> Hashing {
    let mut pepper = vec![0; 64];
    File::open("/dev/urandom").unwrap().read_exact(&mut pepper).unwrap();
    tell(line, &pepper);
    let hashing = Hashing::peppered(Pepper::new(pepper).unwrap());
    let (mut nobody, _other_end) = UnixStream::pair().unwrap();
    drop(use_a_key(&mut nobody, hashing.clone()).await);
    hashing
}

/// What may be left: nothing. A program that is not optimised keeps its registers' contents on the stack, too,
/// which nobody wipes: pieces of the key, and never all of it.
const MOST: usize = if cfg!(debug_assertions) { 32 } else { 0 };

#[test]
fn a_key_that_was_used_and_dropped_is_nowhere_in_memory() {
    let random = |holder: &Holder| holder.told[b"acme_".len()..].to_vec();
    let kept = Holder::of("kept-key");
    let (length, _) = kept.longest_trace(&random(&kept));
    assert_eq!(length, random(&kept).len(), "a key that is kept is found");
    let dropped = Holder::of("key");
    let (length, place) = dropped.longest_trace(&random(&dropped));
    assert!(length <= MOST, "{length} bytes of the key at {place}");
}

#[test]
fn a_key_is_nowhere_however_it_comes_and_is_hashed() {
    for (task, beginning) in [
        ("peppered-key", "acme_".len()),
        ("asked-layer", "acme_".len()),
        ("sha512", 0),
        ("sanctum", 0),
        ("prefixed", 0),
    ] {
        let holder = Holder::of(task);
        let (length, place) = holder.longest_trace(&holder.told[beginning..]);
        assert!(length <= MOST, "{task}: {length} bytes of the key at {place}");
    }
}

/// As it is, and as HMAC has it: with 0x36 and with 0x5c in every byte (RFC 2104).
#[test]
fn a_pepper_that_was_used_and_dropped_is_nowhere_in_memory() {
    let kept = Holder::of("kept-pepper");
    let (length, _) = kept.longest_trace(&kept.told);
    assert_eq!(length, kept.told.len(), "a pepper that is kept is found");
    let dropped = Holder::of("pepper");
    for with in [0, 0x36, 0x5c, 0x36 ^ 0x5c] {
        let pepper: Vec<u8> = dropped.told.iter().map(|byte| byte ^ with).collect();
        let (length, place) = dropped.longest_trace(&pepper);
        assert!(length <= MOST, "{length} bytes of the pepper (^ {with:#x}) at {place}");
    }
}
