//! What is counted of the use of keys. Knows no index and no lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::record::{AccountId, KeyId, KeyRecord, Tombstone};
use crate::store::{Day, DayOfUse, KeyUsage, MOST_COUNTED, USAGE_KEPT, Use};

#[derive(Default)]
pub(super) struct Usage {
    counts: HashMap<AccountId, BTreeMap<Day, BTreeMap<KeyId, Counts>>>,
    /// Of each key that ended, what it left.
    ended: HashMap<AccountId, HashMap<KeyId, Arc<Tombstone>>>,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    refusals: u64,
}

impl Usage {
    /// Adds the counts of a use of one of the key's secrets, and forgets the account's old days.
    pub(super) fn add(&mut self, account: &AccountId, id: &KeyId, used: &Use) {
        if used.requests == 0 && used.refusals == 0 {
            return;
        }
        let day = Day::of(used.at);
        let days = self.counts.entry(account.clone()).or_default();
        let counts = days.entry(day).or_default().entry(id.clone()).or_default();
        counts.requests = sum(counts.requests, used.requests);
        counts.refusals = sum(counts.refusals, used.refusals);
        *days = days.split_off(&day.back(USAGE_KEPT));
    }

    /// Notes what a key left when it ended for good.
    pub(super) fn end(&mut self, tombstone: Arc<Tombstone>) {
        let ended = self.ended.entry(tombstone.account.clone()).or_default();
        ended.insert(tombstone.key.clone(), tombstone);
    }

    /// What was counted of an account, which has these live records.
    pub(super) fn since(
        &self,
        since: Day,
        account: &AccountId,
        live: &[Arc<KeyRecord>],
    ) -> Vec<KeyUsage> {
        let live: HashMap<_, _> = live.iter().map(|record| (&record.id, record)).collect();
        let mut used = BTreeMap::<_, Vec<_>>::new();
        let counted = self.counts.get(account).into_iter().flat_map(|days| days.range(since..));
        for (&day, keys) in counted {
            for (id, &Counts { requests, refusals }) in keys {
                used.entry(id).or_default().push(DayOfUse { day, requests, refusals });
            }
        }
        let usage = used.into_iter().filter_map(|(id, days)| {
            let (name, ended_at) = if let Some(record) = live.get(id) {
                (&record.name, None)
            } else {
                let left = self.ended.get(account)?.get(id)?;
                (&left.name, Some(left.ended_at))
            };
            Some(KeyUsage { key: id.clone(), name: name.clone(), ended_at, days })
        });
        usage.collect()
    }
}

fn sum(counted: u64, more: u64) -> u64 {
    counted.saturating_add(more).min(MOST_COUNTED)
}
