//! Who is told of what the layer decided, and what is counted of it. Decides nothing, and no request
//! waits for it.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use crate::digest::AgentHash;
use crate::events::{Exposure, KeyEvent, Listeners};
use crate::extract::TakenKey;
use crate::identity::Identity;
use crate::network;
use crate::rejection::{Refusal, Rejection};
use crate::usage::Usage;
use crate::verify::Verifier;

/// How many keys that came in the clear from one part of all addresses are looked up in a second, at the most:
/// whoever sends more of them is a flood, and nobody reads so many messages.
const EXPOSURES_A_SECOND: usize = 8;

/// How many parts there are. Who floods one, hides what comes from there and nothing else.
const PARTS: usize = 32;

#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) usage: Option<Usage>,
    pub(crate) listeners: Listeners,
    exposures: Arc<Exposures>,
}

/// Who may have a key looked up now. Nobody can choose whose addresses are in the same part as their own.
struct Exposures {
    parts: [Arc<Semaphore>; PARTS],
    hasher: RandomState,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            usage: None,
            listeners: Listeners::default(),
            exposures: Arc::new(Exposures {
                parts: std::array::from_fn(|_| Arc::new(Semaphore::new(EXPOSURES_A_SECOND))),
                hasher: RandomState::new(),
            }),
        }
    }
}

impl Exposures {
    /// A permit of the part in which the address is.
    fn permit(&self, client: Option<IpAddr>) -> Option<OwnedSemaphorePermit> {
        let hash = self.hasher.hash_one(client.map(network::customer));
        let part = &self.parts[usize::from(hash.to_le_bytes()[0]) % PARTS];
        Arc::clone(part).try_acquire_owned().ok()
    }
}

impl Watch {
    /// `client` is asked now and then.
    pub(super) fn accepted(
        &self,
        identity: &Identity,
        headers: &HeaderMap,
        client: impl FnOnce() -> Option<IpAddr>,
    ) {
        let agent = || headers.get(header::USER_AGENT).map(|name| AgentHash::of(name.as_bytes()));
        if let Some(usage) = &self.usage {
            usage.accepted(identity.record(), || (client(), agent()));
        }
    }

    pub(super) fn refused(&self, rejection: &Rejection) {
        self.count_refusal(rejection);
        self.listeners.tell(&KeyEvent::Refused { rejection });
    }

    /// A request goes on that would have been refused.
    pub(super) fn passed(&self, rejection: &Rejection) {
        self.count_refusal(rejection);
        self.listeners.tell(&KeyEvent::WouldRefuse { rejection });
    }

    fn count_refusal(&self, rejection: &Rejection) {
        let Some(usage) = &self.usage else { return };
        if let (Some(secret), Some(_)) = (rejection.fingerprint(), rejection.key_id()) {
            usage.refused(secret);
        } else if rejection.kind().refusal() == Refusal::InvalidKey {
            usage.looked_for(rejection.fingerprint());
        }
    }

    /// A key came, and nothing says that it came over HTTPS. Whether it is one is found out by a task of its
    /// own: the caller is answered at once, and learns nothing.
    pub(super) fn exposed(
        &self,
        key: Option<&TakenKey>,
        client: impl FnOnce() -> Option<IpAddr>,
        exposure: Exposure<'static>,
        verifier: &Verifier,
    ) {
        let key = key.and_then(|key| key.text().ok());
        let Some(key) = key.filter(|key| verifier.format.admits(*key)) else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        let Some(permit) = self.exposures.permit(client()) else { return };
        let search = verifier.search(key);
        let (verifier, listeners) = (verifier.clone(), self.listeners.clone());
        let looking = runtime.spawn(async move {
            if let Some(key) = verifier.look_up(search).await {
                tracing::warn!(
                    target: "tower_api_key",
                    key_id = %key.id,
                    key_name = key.name.as_str(),
                    account = key.account.as_str(),
                    ?exposure,
                    "a valid key came, and not provably over HTTPS: replace it if it came in the clear"
                );
                listeners.tell(&KeyEvent::Exposed { key: &key, exposure });
            }
        });
        runtime.spawn(async move {
            // However it ended: a store that panics is not asked more often.
            let _ = looking.await;
            match catch_unwind(|| sleep(Duration::from_secs(1))) {
                Ok(pause) => pause.await,
                // Tokio has no timers here, nor had the lookup.
                Err(_) => permit.forget(),
            }
        });
    }
}

#[cfg(test)]
mod tests;
