//! Whose session each is. Knows no HTTP and no key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::{SessionId, SessionManager as _};
use tower_api_key::AccountId;

/// The account's session that was used the longest ago makes room for one more.
const MOST_PER_ACCOUNT: usize = 25;
/// The same for all accounts together.
const MOST: usize = 1_000;

pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    owned: Mutex<Owned>,
}

#[derive(Default)]
struct Owned {
    /// Counts what was done with sessions, so that they can be put in the order of their last use.
    steps: u64,
    sessions: HashMap<SessionId, Session>,
}

struct Session {
    account: AccountId,
    used: u64,
}

impl Sessions {
    pub(super) fn new(manager: Arc<LocalSessionManager>) -> Self {
        Self { manager, owned: Mutex::default() }
    }

    /// Whether the session is the account's, which is then using it.
    pub(super) fn belongs_to(&self, id: &str, account: &AccountId) -> bool {
        let mut owned = self.owned();
        let step = owned.step();
        let session = owned.sessions.get_mut(id).filter(|session| session.account == *account);
        session.map(|session| session.used = step).is_some()
    }

    pub(super) async fn exists(&self, id: &str) -> bool {
        self.manager.sessions.read().await.contains_key(id)
    }

    /// Notes whose a new session is, forgets those that have ended, and ends those that are too many.
    pub(super) async fn add(&self, id: &str, account: AccountId) {
        let too_many = {
            let alive = self.manager.sessions.read().await;
            let mut owned = self.owned();
            owned.sessions.retain(|id, _| alive.contains_key(id));
            let used = owned.step();
            owned.sessions.insert(id.into(), Session { account: account.clone(), used });
            let own = owned.take_beyond(MOST_PER_ACCOUNT, |session| session.account == account);
            own.into_iter().chain(owned.take_beyond(MOST, |_| true)).collect::<Vec<_>>()
        };
        for id in too_many {
            if let Err(error) = self.manager.close_session(&id).await {
                tracing::warn!(%error, "a session could not be closed");
            }
        }
    }

    fn owned(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owned {
    fn step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    /// Takes out those that were used the longest ago, until no more than `most` are left of a kind.
    fn take_beyond(&mut self, most: usize, kind: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        let of_kind = self.sessions.iter().filter(|(_, session)| kind(session));
        let mut by_use: Vec<_> = of_kind.map(|(id, session)| (session.used, id.clone())).collect();
        by_use.sort_unstable();
        by_use.truncate(by_use.len().saturating_sub(most));
        for (_, id) in &by_use {
            self.sessions.remove(id);
        }
        by_use.into_iter().map(|(_, id)| id).collect()
    }
}
