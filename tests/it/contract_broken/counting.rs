//! Faults in what a store shows of the last use and counts of all.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tower_api_key::store::USAGE_KEPT;
use tower_api_key::{
    AccountId, Changes, Day, DayOfUse, Entry, Fingerprint, KeyId, KeyName, KeyRecord,
    KeyRegistry as _, KeyUsage, Lookup, Use, Version,
};

use super::faulty::{Said, edited, fault, found, pause};

/// Uses in another way.
fn changed(uses: &[Use], change: impl Fn(&mut Use)) -> Vec<Use> {
    let mut uses = uses.to_vec();
    uses.iter_mut().for_each(change);
    uses
}

fault! {
    /// `coalesce(?, last_used_from)`
    KeepsOldAddresses(HashMap<Fingerprint, IpAddr>) {
        async fn mark_used(&self, uses: &[Use]) {
            let uses = {
                let mut known = self.state.lock().unwrap();
                known.extend(uses.iter().filter_map(|it| Some((it.fingerprint, it.address?))));
                changed(uses, |it| it.address = known.get(&it.fingerprint).copied())
            };
            self.good.mark_used(&uses).await.unwrap();
        }
    }
}

fault! {
    ForgetsAgentsWhenRenaming(HashSet<KeyId>) {
        async fn rename(
            &self,
            account: &AccountId,
            id: &KeyId,
            name: KeyName,
        ) -> Said<Arc<KeyRecord>> {
            self.state.lock().unwrap().insert(id.clone());
            self.good.rename(account, id, name).await
        }

        async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
            let got = self.good.get(account, id).await.unwrap()?;
            let is_renamed = self.state.lock().unwrap().contains(id);
            Some(edited(&got, |it| it.last_used_agent = it.last_used_agent.filter(|_| !is_renamed)))
        }

        async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
            let mut listed = Vec::new();
            for key in self.good.list(account).await.unwrap() {
                listed.extend(self.get(account, &key.id).await);
            }
            listed
        }
    }
}

fault! {
    /// Shows a use whatever became of it.
    ShowsRefusals {
        async fn mark_used(&self, uses: &[Use]) {
            let shown = changed(uses, |it| it.requests = it.requests.max(1));
            self.good.mark_used(&shown).await.unwrap();
        }
    }
}

fault! {
    /// One row a secret in one statement, whichever comes last.
    CountsASecretOnceACall {
        async fn mark_used(&self, uses: &[Use]) {
            let last: HashMap<_, _> = uses.iter().map(|used| (used.fingerprint, *used)).collect();
            let last: Vec<_> = last.into_values().collect();
            self.good.mark_used(&last).await.unwrap();
        }
    }
}

fault! {
    /// The server's day begins an hour before.
    CountsInLocalTime {
        async fn mark_used(&self, uses: &[Use]) {
            let local = changed(uses, |it| it.at += Duration::from_hours(1));
            self.good.mark_used(&local).await.unwrap();
        }
    }
}

fault! {
    /// Two that read the same count write the same count.
    CountsOneOfTwoAtOnce(u64) {
        async fn mark_used(&self, uses: &[Use]) {
            let before = *self.state.lock().unwrap();
            pause().await;
            {
                let mut noted = self.state.lock().unwrap();
                if *noted != before {
                    return;
                }
                *noted += 1;
            }
            self.good.mark_used(uses).await.unwrap();
        }
    }
}

fault! {
    /// An `INTEGER` of 32 bits, and no strict mode.
    CountsIn32Bits {
        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, since).await.unwrap();
            for day in usage.iter_mut().flat_map(|used| &mut used.days) {
                day.requests &= 0xffff_ffff;
            }
            usage
        }
    }
}

fault! {
    /// `day > ?`
    BeginsADayLate {
        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let late = Day::from_number(since.number().saturating_add(1));
            self.good.usage(account, late).await.unwrap()
        }
    }
}

fault! {
    GivesKeysWithoutDays {
        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, Day::from_number(0)).await.unwrap();
            for used in &mut usage {
                used.days.retain(|it| it.day >= since);
            }
            usage
        }
    }
}

fault! {
    /// `WHERE day >= ?`, and no account.
    GivesEverybodySUsage(HashSet<AccountId>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.state.lock().unwrap().insert(record.account.clone());
            self.good.insert(record, limit).await
        }

        async fn usage(&self, _: &AccountId, since: Day) -> Vec<KeyUsage> {
            let accounts = self.state.lock().unwrap().clone();
            let mut usage = Vec::new();
            for account in &accounts {
                usage.extend(self.good.usage(account, since).await.unwrap());
            }
            usage.sort_by(|a, b| a.key.cmp(&b.key));
            usage
        }
    }
}

fault! {
    /// The collation of some language.
    OrdersIdsWithoutCase {
        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, since).await.unwrap();
            usage.sort_by_key(|used| used.key.as_str().to_lowercase());
            usage
        }
    }
}

fault! {
    /// Counts by secret, and asks whose it is when it is asked.
    CountsUnknownSecrets(Vec<Use>) {
        async fn mark_used(&self, uses: &[Use]) {
            for used in uses {
                if found(&self.good, used.fingerprint).is_none() {
                    self.state.lock().unwrap().push(*used);
                }
            }
            self.good.mark_used(uses).await.unwrap();
        }

        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let kept = self.state.lock().unwrap().clone();
            let is_known = |used: &Use| found(&self.good, used.fingerprint).is_some();
            let (known, unknown) = kept.into_iter().partition(is_known);
            *self.state.lock().unwrap() = unknown;
            self.good.mark_used(&known).await.unwrap();
            self.good.usage(account, since).await.unwrap()
        }
    }
}

fault! {
    /// `JOIN secrets … WHERE digest IS NOT NULL`
    CountsLiveSecretsOnly {
        async fn mark_used(&self, uses: &[Use]) {
            let mut uses = uses.to_vec();
            uses.retain(|it| matches!(found(&self.good, it.fingerprint), Some(Entry::Live(_))));
            self.good.mark_used(&uses).await.unwrap();
        }
    }
}

fault! {
    /// `JOIN secrets USING (fingerprint)`: what became of a key is read off the secret that was used.
    NamesByTheSecretThatWasUsed(HashMap<KeyId, Fingerprint>) {
        async fn mark_used(&self, uses: &[Use]) {
            for used in uses {
                let id = match found(&self.good, used.fingerprint) {
                    Some(Entry::Live(record)) => record.id.clone(),
                    Some(Entry::Ended(left)) => left.key.clone(),
                    None => continue,
                };
                self.state.lock().unwrap().insert(id, used.fingerprint);
            }
            self.good.mark_used(uses).await.unwrap();
        }

        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, since).await.unwrap();
            for used in &mut usage {
                let secret = self.state.lock().unwrap()[&used.key];
                if let Some(Entry::Ended(left)) = found(&self.good, secret) {
                    used.name = left.name.clone();
                    used.ended_at = Some(left.ended_at);
                }
            }
            usage
        }
    }
}

fault! {
    /// A month is enough.
    ForgetsAfterAMonth {
        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, since).await.unwrap();
            for used in &mut usage {
                let last = used.days.last().map(|last| last.day.back(30));
                used.days.retain(|it| Some(it.day) >= last);
            }
            usage
        }
    }
}

fault! {
    /// A table that only grows.
    ForgetsNothing(HashMap<KeyId, Vec<DayOfUse>>) {
        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(uses).await.unwrap();
            for account in ["a", "b"].map(|name| name.parse().unwrap()) {
                for used in self.good.usage(&account, Day::from_number(0)).await.unwrap() {
                    let mut kept = self.state.lock().unwrap();
                    let days = kept.entry(used.key).or_default();
                    days.retain(|old| used.days.iter().all(|new| new.day != old.day));
                    days.extend(used.days);
                    days.sort_by_key(|it| it.day);
                }
            }
        }

        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let mut usage = self.good.usage(account, since).await.unwrap();
            for used in &mut usage {
                used.days = self.state.lock().unwrap()[&used.key].clone();
                used.days.retain(|it| it.day >= since);
            }
            usage
        }
    }
}

fault! {
    /// `DELETE FROM usage WHERE day < ?`, and no account.
    ForgetsEverybodySDays(u32) {
        async fn mark_used(&self, uses: &[Use]) {
            let last = uses.iter().map(|used| Day::of(used.at).number()).max().unwrap_or(0);
            {
                let mut latest = self.state.lock().unwrap();
                *latest = last.max(*latest);
            }
            self.good.mark_used(uses).await.unwrap();
        }

        async fn usage(&self, account: &AccountId, since: Day) -> Vec<KeyUsage> {
            let oldest = Day::from_number(*self.state.lock().unwrap()).back(USAGE_KEPT);
            self.good.usage(account, since.max(oldest)).await.unwrap()
        }
    }
}

fault! {
    /// A note is a write like any other.
    NotesTakeVersions(u64) {
        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(uses).await.unwrap();
            *self.state.lock().unwrap() += 1;
        }

        async fn changes(&self, since: Version) -> Changes {
            let changes = self.good.changes(since).await.unwrap();
            let Changes::Known { latest, changes } = changes else { return changes };
            let noted = *self.state.lock().unwrap();
            Changes::Known { latest: Version::new(latest.get() + noted), changes }
        }
    }
}

fault! {
    /// `ON CONFLICT DO UPDATE SET …` over the whole row, tombstone or not.
    RefusalsForgetTombstones(HashSet<Fingerprint>) {
        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(uses).await.unwrap();
            let refused = uses.iter().filter(|it| it.refusals > 0).map(|it| it.fingerprint);
            self.state.lock().unwrap().extend(refused);
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let is_forgotten = self.state.lock().unwrap().contains(&fingerprint);
            let found = found(&self.good, fingerprint);
            Lookup::ready(Ok(found.filter(|it| matches!(it, Entry::Live(_)) || !is_forgotten)))
        }
    }
}
