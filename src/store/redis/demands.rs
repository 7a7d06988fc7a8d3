//! What a server must be before keys are trusted to it, judged by its `INFO`, because `CONFIG` is
//! forbidden in many places. Knows no keys.

use super::server::field;
use crate::store::StoreError;

/// What is demanded of every server that a store connects to.
#[derive(Clone, Copy)]
pub(super) struct Demands {
    pub(super) accepts_data_loss: bool,
}

impl Demands {
    /// Judges the server that a store is opened on, and refuses one that falls short.
    pub(super) fn judge(self, info: &str) -> Result<(), StoreError> {
        if let Some(what) = self.unmet(info) {
            return Err(StoreError::Unsafe { store: "redis", what });
        }
        if let Some(dangers) = dangers(info) {
            tracing::warn!(target: "tower_api_key", store = "redis", %dangers, "the store may lose keys, as was accepted");
        }
        Ok(())
    }

    /// Judges a server that an open store connects to: after a failover it may be set up otherwise. It
    /// is used all the same, because a service that is down is worse than a loss that may come.
    pub(super) fn report(self, info: &str) {
        if let Some(dangers) = self.unmet(info) {
            tracing::error!(target: "tower_api_key", store = "redis", %dangers, "the server that was connected to may lose keys; no store would be opened on it");
        }
    }

    fn unmet(self, info: &str) -> Option<String> {
        too_old(info).or_else(|| dangers(info).filter(|_| !self.accepts_data_loss))
    }
}

fn too_old(info: &str) -> Option<String> {
    let version = field(info, "redis_version").unwrap_or("of an unknown version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    major
        .is_none_or(|major| major < 7)
        .then(|| format!("it is Redis {version}; use version 7 or later"))
}

fn dangers(info: &str) -> Option<String> {
    let mut dangers = Vec::new();
    if field(info, "aof_enabled") != Some("1") {
        dangers.push("a restart may lose keys and revive deleted ones: set `appendonly yes`");
    }
    if field(info, "maxmemory_policy") != Some("noeviction") {
        dangers
            .push("it throws keys away when its memory is full: set `maxmemory-policy noeviction`");
    }
    (!dangers.is_empty()).then(|| dangers.join("; "))
}

#[cfg(test)]
mod tests;
