//! What the writes of the store keep: who has which keys, what was changed, and who is on the roll.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::usage::Usage;
use crate::digest::Fingerprint;
use crate::record::{AccountId, KeyId, KeyRecord};
use crate::store::{CHANGES_KEPT, Change, Changes, Enrolled, ReplicaId, Version};

#[derive(Default)]
pub(super) struct Books {
    pub(super) accounts: Accounts,
    pub(super) usage: Usage,
    pub(super) version: Version,
    changes: VecDeque<Change>,
    pub(super) roll: BTreeMap<ReplicaId, Enrolled>,
}

/// Every account that ever had a key, with its records, oldest first.
type Accounts = HashMap<AccountId, Vec<Arc<KeyRecord>>>;

impl Books {
    pub(super) fn changes_since(&self, since: Version) -> Changes {
        let latest = self.version;
        if !Changes::are_known(since, latest) {
            return Changes::Forgotten { latest };
        }
        let first = self.changes.partition_point(|change| change.version <= since);
        Changes::Known { latest, changes: self.changes.range(first..).copied().collect() }
    }

    /// Gives a write that touched these secrets the next version.
    pub(super) fn note(&mut self, touched: &[Fingerprint]) {
        if touched.is_empty() {
            return;
        }
        self.version = self.version.next();
        let version = self.version;
        self.changes.extend(touched.iter().map(|&fingerprint| Change { version, fingerprint }));
        while let Some(oldest) = self.changes.front()
            && oldest.version.get() + CHANGES_KEPT <= version.get()
        {
            self.changes.pop_front();
        }
    }

    pub(super) fn records(&self, account: &AccountId) -> &[Arc<KeyRecord>] {
        self.accounts.get(account).map_or(&[], Vec::as_slice)
    }

    pub(super) fn place(&self, account: &AccountId, id: &KeyId) -> Option<usize> {
        self.records(account).iter().position(|record| record.id == *id)
    }

    pub(super) fn slot(&mut self, account: &AccountId, id: &KeyId) -> Option<&mut Arc<KeyRecord>> {
        self.accounts.get_mut(account)?.iter_mut().find(|record| record.id == *id)
    }
}

/// How many of these count towards the cap.
pub(super) fn active(records: &[Arc<KeyRecord>], now: SystemTime) -> usize {
    records.iter().filter(|record| !record.is_expired(now)).count()
}

#[cfg(test)]
#[path = "books/tests.rs"]
mod tests;
