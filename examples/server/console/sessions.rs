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
    /// A new session in place of the one that the request is of, and the `Set-Cookie` that names it.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Result<String, SysError> {
        let token = hex::encode(random::<32>()?);
        let now = Instant::now();
        let mut sessions = self.lock();
        sessions.retain(|_, session| !session.is_over());
        for old in tokens(headers) {
            sessions.remove(&digest(old));
        }
        sessions.insert(digest(token.as_bytes()), Session { begun: now, seen: now });
        Ok(format!("__Host-session={token}; Path=/; Secure; HttpOnly; SameSite=Strict"))
    }

    /// Whether the request is of a session, which this prolongs.
    pub(super) fn has(&self, headers: &HeaderMap) -> bool {
        let mut sessions = self.lock();
        tokens(headers).any(|token| {
            let session = sessions.get_mut(&digest(token)).filter(|session| !session.is_over());
            session.map(|session| session.seen = Instant::now()).is_some()
        })
    }

    /// Ends the session that the request is of; whether there was one.
    pub(super) fn end(&self, headers: &HeaderMap) -> bool {
        let mut sessions = self.lock();
        let ended = tokens(headers).filter_map(|token| sessions.remove(&digest(token)));
        ended.filter(|session| !session.is_over()).count() > 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's cookie, or several, of which somebody else may have set all but one. HTTP/2 may send each
/// in a line of its own, and others' cookies may be of any bytes.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(b"__Host-session=".as_slice()))
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}
