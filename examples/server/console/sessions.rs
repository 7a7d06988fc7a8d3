//! Who is signed in. Sessions are in memory: they end with the process. Of each only the digest of its
//! cookie is kept.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use rand::rngs::SysError;
use sha2::{Digest as _, Sha256};

use super::password::random;

/// How long a session lasts, whatever happens, and how long without a request.
const LIFETIME: Duration = Duration::from_hours(12);
const IDLE: Duration = Duration::from_hours(1);

/// Takes the cookie away.
pub(super) const NO_COOKIE: &str =
    "__Host-session=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

struct Session {
    begun: Instant,
    seen: Instant,
}

impl Session {
    fn is_over(&self) -> bool {
        self.begun.elapsed() >= LIFETIME || self.seen.elapsed() >= IDLE
    }
}

impl Sessions {
    /// A new session, and the `Set-Cookie` that names it. Whatever cookie came with the request is of
    /// no account.
    pub(super) fn begin(&self) -> Result<String, SysError> {
        let token = hex::encode(random::<32>()?);
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, session| !session.is_over());
        sessions.insert(digest(&token), Session { begun: now, seen: now });
        Ok(format!("__Host-session={token}; Path=/; Secure; HttpOnly; SameSite=Strict"))
    }

    /// Whether the request is of a session, which this prolongs.
    pub(super) fn has(&self, headers: &HeaderMap) -> bool {
        let Some(token) = token(headers) else { return false };
        let mut sessions = self.lock();
        let session = sessions.get_mut(&digest(token)).filter(|session| !session.is_over());
        session.map(|session| session.seen = Instant::now()).is_some()
    }

    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(token) = token(headers) {
            self.lock().remove(&digest(token));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's cookie. HTTP/2 may send each cookie in a line of its own.
fn token(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let mut cookies = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix("__Host-session="))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}
