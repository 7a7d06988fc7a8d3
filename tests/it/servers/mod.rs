//! The servers that tests start themselves: each on a free port of its own, with its data in a folder
//! of its own, and gone when its value is dropped or the test process has died in whatever way.
//!
//! A test begins with `let Some(server) = Postgres::start() else { return };`. Where a server is not
//! installed, the test then passes at once, and says on stderr that it was left out and why; with
//! `TOWER_API_KEY_TEST_SERVERS=required` that is a failure.

mod disk;
pub(crate) mod folder;
mod network;
mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod process;
mod redis;
mod wire;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use self::disk::Disk;
pub(crate) use self::network::Network;
pub(crate) use self::pgbouncer::PgBouncer;
pub(crate) use self::postgres::{Options as PostgresOptions, Postgres};
pub(crate) use self::redis::Redis;
pub(crate) use self::wire::Wire;

/// Makes what is missing a failure.
const REQUIRED: &str = "TOWER_API_KEY_TEST_SERVERS";

/// What was started, or `None` when the running test is left out.
pub(crate) fn present<T>(started: Result<T, String>) -> Option<T> {
    started.map_err(|reason| left_out(&reason)).ok()
}

fn left_out(reason: &str) {
    assert!(std::env::var_os(REQUIRED).is_none_or(|value| value != "required"), "{reason}");
    say_left_out(reason);
}

/// Says that the running test is left out and why, where libtest does not hide it.
fn say_left_out(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Stderr may be closed; the test is left out all the same.
    let _ = writeln!(std::io::stderr(), "left out: {test} ({reason})");
}

/// A port that is free now and that no outgoing connection takes later: below the range from which
/// the system gives those theirs, so that a server can come back on it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..10_000 {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(number).unwrap();
        if TcpListener::bind(local(port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A command with the rights that it needs, if they can be had without a password.
fn privileged(program: &str) -> Vec<&str> {
    if we_are_root() { vec![program] } else { vec!["sudo", "-n", program] }
}

fn we_are_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|myself| myself.uid() == 0)
}

/// The first of the folders on `PATH`, and of `others`, that has the program.
pub(crate) fn program(name: &str, others: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).collect::<Vec<_>>();
    let sbin = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let all = folders.iter().chain(others).chain(&sbin);
    all.map(|folder| folder.join(name)).find(|file| Path::is_file(file))
}
