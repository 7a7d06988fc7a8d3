//! A listener that deletes the keys that it hears were exposed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::events::{Exposure, KeyEvent, KeyEvents};
use crate::manage::KeyManager;
use crate::record::KeyRecord;

/// How many keys are deleted at a time. There are as many tasks, and no queue.
const AT_ONCE: usize = 256;

/// How often one is tried while the store is down, the first time again after [`PAUSE`], and then after
/// twice as long each time: 6 s in all.
const ATTEMPTS: u32 = 7;
const PAUSE: Duration = Duration::from_millis(100);

/// Deletes every key that it hears was [exposed](KeyEvent::Exposed), for good, and nothing else. Of keys of
/// which it is only [not proven](Exposure::Unproven) that they came over HTTPS it deletes none.
///
/// A key that travels in the clear once is dead a moment later, whatever its owner thinks of that: say so
/// where customers read it. A key that was given a new secret since is left alone. It is for the layer: a
/// `GitHubReceiver` deletes by itself, before it answers, where it is told to.
///
/// Each deletion is a task of its own, so no request waits for it, and is logged. While the store is down it
/// is tried for 6 s and then given up, with an error event; so is one beyond the 256 that are under way, and
/// one that is heard of outside of a Tokio runtime. See the [module](super) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct RevokeExposed {
    manager: KeyManager,
    room: Arc<Semaphore>,
}

impl RevokeExposed {
    /// Deletes keys through `manager`, as whoever that one [acts for](KeyManager::acting_for). Its listeners
    /// are told of what was deleted.
    pub fn by(manager: KeyManager) -> Self {
        Self { manager, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl KeyEvents for RevokeExposed {
    fn hear(&self, event: &KeyEvent<'_>) {
        let KeyEvent::Exposed { key, exposure } = event else { return };
        if *exposure == Exposure::Unproven {
            return;
        }
        let (Ok(runtime), Ok(room)) =
            (Handle::try_current(), Arc::clone(&self.room).try_acquire_owned())
        else {
            log_failure(key, "no room or no runtime");
            return;
        };
        let (manager, key) = (self.manager.clone(), KeyRecord::clone(key));
        runtime.spawn(async move {
            revoke(&manager, &key).await;
            drop(room);
        });
    }
}

async fn revoke(manager: &KeyManager, key: &KeyRecord) {
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        }
        match manager.revoke(key).await {
            Ok(was_live) => {
                tracing::warn!(
                    target: "tower_api_key",
                    key_id = %key.id,
                    key_name = key.name.as_str(),
                    account = key.account.as_str(),
                    was_live,
                    "an exposed key is revoked"
                );
                return;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(target: "tower_api_key", key_id = %key.id, error, "an exposed key could not be revoked yet");
            }
        }
    }
    log_failure(key, "the store did not do it");
}

fn log_failure(key: &KeyRecord, why: &'static str) {
    tracing::error!(
        target: "tower_api_key",
        key_id = %key.id,
        key_name = key.name.as_str(),
        account = key.account.as_str(),
        why,
        "an exposed key was not revoked, and works"
    );
}
