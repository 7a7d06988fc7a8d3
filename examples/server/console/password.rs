//! The console's one password. Only its SHA-256 is kept, and in memory.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// So many wrong passwords, from everybody together, are looked at in one [`WINDOW`].
const MOST_WRONG: u32 = 20;
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

/// Wrong passwords since a moment.
struct Wrong {
    since: Instant,
    count: u32,
}

impl Password {
    pub(crate) fn new(text: &str) -> Self {
        let wrong = Mutex::new(Wrong { since: Instant::now(), count: 0 });
        Self { digest: Sha256::digest(text).into(), wrong }
    }

    /// A password that nobody guesses, and its text, to be shown.
    pub(crate) fn made() -> Result<(Self, String), SysError> {
        let text = hex::encode(random::<16>()?);
        Ok((Self::new(&text), text))
    }

    pub(crate) fn judge(&self, text: &str) -> Verdict {
        let mut wrong = self.wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wrong.since.elapsed() >= WINDOW {
            *wrong = Wrong { since: Instant::now(), count: 0 };
        }
        if wrong.count >= MOST_WRONG {
            return Verdict::TooMany;
        }
        let digest: [u8; 32] = Sha256::digest(text).into();
        if digest.ct_eq(&self.digest).into() {
            return Verdict::Right;
        }
        wrong.count += 1;
        Verdict::Wrong
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], SysError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
