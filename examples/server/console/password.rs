//! The console's one password. Only its SHA-256 is kept, and in memory.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// So many wrong passwords from one address, and from all together, are looked at in one [`WINDOW`].
const MOST_WRONG: usize = 20;
const MOST_WRONG_IN_ALL: usize = 1_000;
const WINDOW: Duration = Duration::from_mins(1);

pub(crate) enum Verdict {
    Right,
    Wrong,
    TooMany,
}

pub(crate) struct Password {
    digest: [u8; 32],
    wrong: Mutex<Wrong>,
}

/// From where wrong passwords came since a moment.
struct Wrong {
    since: Instant,
    from: Vec<Option<IpAddr>>,
}

impl Wrong {
    fn since(since: Instant) -> Self {
        Self { since, from: Vec::new() }
    }

    fn is_too_many(&self, peer: Option<IpAddr>) -> bool {
        let same = self.from.iter().filter(|from| **from == peer).count();
        same >= MOST_WRONG || self.from.len() >= MOST_WRONG_IN_ALL
    }
}

impl Password {
    pub(crate) fn new(text: &str) -> Self {
        let wrong = Mutex::new(Wrong::since(Instant::now()));
        Self { digest: Sha256::digest(text).into(), wrong }
    }

    /// A password that nobody guesses, and its text, to be shown.
    pub(crate) fn made() -> Result<(Self, String), SysError> {
        let text = hex::encode(random::<16>()?);
        Ok((Self::new(&text), text))
    }

    pub(crate) fn judge(&self, text: &str, peer: Option<IpAddr>) -> Verdict {
        let mut wrong = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wrong.since.elapsed() >= WINDOW {
            *wrong = Wrong::since(Instant::now());
        }
        if wrong.is_too_many(peer) {
            return Verdict::TooMany;
        }
        let digest: [u8; 32] = Sha256::digest(text).into();
        if digest.ct_eq(&self.digest).into() {
            return Verdict::Right;
        }
        wrong.from.push(peer);
        Verdict::Wrong
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], SysError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
