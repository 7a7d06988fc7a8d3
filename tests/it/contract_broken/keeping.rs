//! Faults in what a store keeps: versions, uses, texts and times.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_api_key::{
    AccountId, Change, Changes, Fingerprint, KeyId, KeyRecord, KeyRegistry as _, Use, Version,
    Written,
};

use super::faulty::{Said, edited, fault};

fault! {
    /// Each secret that a write touches takes a version.
    OneVersionASecret {
        async fn changes(&self, since: Version) -> Changes {
            let all = self.good.changes(Version::default()).await.unwrap();
            let Changes::Known { changes, .. } = all else { return all };
            let latest = Version::new(changes.len() as u64);
            let numbered = (1..).zip(changes);
            let changes = numbered.map(|(number, change)| Change {
                version: Version::new(number),
                fingerprint: change.fingerprint,
            });
            Changes::Known { latest, changes: changes.filter(|it| it.version > since).collect() }
        }
    }
}

fault! {
    /// A sequence that a write takes from before it knows whether it will be done.
    RefusalsTakeVersions(u64) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let written = self.good.insert(record, limit).await?;
            *self.state.lock().unwrap() += u64::from(written == Written::Refused);
            Ok(written)
        }

        async fn changes(&self, since: Version) -> Changes {
            let changes = self.good.changes(since).await.unwrap();
            let Changes::Known { latest, changes } = changes else { return changes };
            let refused = *self.state.lock().unwrap();
            Changes::Known { latest: Version::new(latest.get() + refused), changes }
        }
    }
}

fault! {
    /// `version >= ?`
    GivesTheVersionItself {
        async fn changes(&self, since: Version) -> Changes {
            let before = Version::new(since.get().saturating_sub(1));
            self.good.changes(before).await.unwrap()
        }
    }
}

fault! {
    NotesUsesAsTheyCome(HashMap<Fingerprint, SystemTime>) {
        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(uses).await.unwrap();
            self.state.lock().unwrap().extend(uses.iter().map(|used| (used.fingerprint, used.at)));
        }

        async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
            let got = self.good.get(account, id).await.unwrap()?;
            let at = self.state.lock().unwrap().get(&got.fingerprint()).copied();
            Some(edited(&got, |it| it.last_used_at = at))
        }
    }
}

fault! {
    KeepsSeconds {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let seconds = edited(&record, |it| it.created_at = whole_seconds(it.created_at));
            self.good.insert(seconds, limit).await
        }

        async fn mark_used(&self, uses: &[Use]) {
            let uses: Vec<_> =
                uses.iter().map(|used| Use::new(used.fingerprint, whole_seconds(used.at))).collect();
            self.good.mark_used(&uses).await.unwrap();
        }
    }
}

fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fault! {
    /// As many as fit into one statement.
    NotesTheFirstUses {
        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(&uses[..uses.len().min(500)]).await.unwrap();
        }
    }
}

fault! {
    /// A collation that takes capitals for the same.
    ListIgnoresCase {
        async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
            let mut spellings = HashSet::from([account.clone()]);
            spellings.insert(account.as_str().to_lowercase().parse().unwrap());
            spellings.insert(account.as_str().to_uppercase().parse().unwrap());
            let mut listed = Vec::new();
            for account in &spellings {
                listed.extend(self.good.list(account).await.unwrap());
            }
            listed
        }
    }
}

fault! {
    Unescapes {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let name = record.name.as_str().replace("\\'", "'").parse().unwrap();
            self.good.insert(edited(&record, |it| it.name = name), limit).await
        }
    }
}

fault! {
    /// `VARCHAR(64)`, and no strict mode.
    Truncates {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let name: String = record.name.as_str().chars().take(64).collect();
            self.good.insert(edited(&record, |it| it.name = name.parse().unwrap()), limit).await
        }
    }
}
