//! Faults that show when calls come at once, or are given up.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tower_api_key::{
    AccountId, Change, Changes, Entry, Fingerprint, KeyId, KeyName, KeyRecord, KeyRegistry as _,
    Lookup, NewSecret, Version, Written,
};

use super::faulty::{Said, edited, fault, found, pause};

fault! {
    /// Lists a key before it is filed.
    ListsBeforeItFiles(Vec<Arc<KeyRecord>>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.state.lock().unwrap().push(Arc::clone(&record));
            pause().await;
            let written = self.good.insert(record, limit).await;
            self.state.lock().unwrap().pop();
            written
        }

        async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
            let mut listed = self.good.list(account).await.unwrap();
            listed.extend(self.state.lock().unwrap().iter().cloned());
            listed
        }
    }
}

fault! {
    CountsThenInserts {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let listed = self.good.list(&record.account).await?;
            let active = listed.iter().filter(|key| !key.is_expired(record.created_at)).count();
            if active >= limit {
                return Ok(Written::Refused);
            }
            pause().await;
            self.good.insert(record, usize::MAX).await
        }
    }
}

fault! {
    /// Asks whether there is a key, and then makes one; and asks only for those that are there now.
    LooksThenMakesTheFirst {
        async fn insert_first(&self, record: Arc<KeyRecord>) -> Said<()> {
            if !self.good.list(&record.account).await?.is_empty() {
                return Ok(Written::Refused);
            }
            pause().await;
            self.good.insert(record, usize::MAX).await
        }
    }
}

fault! {
    /// Ends the secret that it has read before, which need no longer be the key's.
    ReplaceEndsWhatItRead(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let read = self.good.get(account, id).await?;
            pause().await;
            let now = self.good.get(account, id).await?;
            let written = self.good.replace(account, id, secret, at).await?;
            if let (Some(read), Some(now), Written::Done(_)) = (read, now, &written)
                && read.fingerprint() != now.fingerprint()
            {
                self.state.lock().unwrap().insert(now.fingerprint(), now);
            }
            Ok(written)
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let left = self.state.lock().unwrap().get(&fingerprint).cloned().map(Entry::Live);
            Lookup::ready(Ok(left.or_else(|| found(&self.good, fingerprint))))
        }
    }
}

fault! {
    /// Files the new secret before it ends the old one.
    ReplaceFilesFirst(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(old) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            let new = edited(&old, |it| it.digest = secret.digest.clone());
            self.state.lock().unwrap().insert(new.fingerprint(), new);
            pause().await;
            let written = self.good.replace(account, id, secret, at).await;
            self.state.lock().unwrap().clear();
            written
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let early = self.state.lock().unwrap().get(&fingerprint).cloned().map(Entry::Live);
            Lookup::ready(Ok(early.or_else(|| found(&self.good, fingerprint))))
        }
    }
}

fault! {
    /// Files the new secret of a key that was there when it looked.
    ReplaceRevives(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(old) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            pause().await;
            let new = edited(&old, |it| it.digest = secret.digest.clone());
            Ok(match self.good.replace(account, id, secret, at).await? {
                Written::NotFound => {
                    self.state.lock().unwrap().insert(new.fingerprint(), Arc::clone(&new));
                    Written::Done(new)
                }
                written => written,
            })
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let revived = self.state.lock().unwrap().get(&fingerprint).cloned().map(Entry::Live);
            Lookup::ready(Ok(revived.or_else(|| found(&self.good, fingerprint))))
        }
    }
}

fault! {
    /// Files the successor of a key that was there when it looked.
    RotatesWhatWasThere {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            if self.good.get(account, id).await?.is_none() {
                return Ok(Written::NotFound);
            }
            pause().await;
            let new = Arc::clone(&successor);
            match self.good.rotate(account, id, new, grace_ends, limit).await? {
                Written::NotFound => self.good.insert(successor, limit).await,
                written => Ok(written),
            }
        }
    }
}

fault! {
    /// Without a grace, ends the old key and then files the new one.
    RotatesInTwoSteps {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            if grace_ends.is_some() {
                return self.good.rotate(account, id, successor, grace_ends, limit).await;
            }
            if self.good.delete(account, id, successor.created_at).await? == Written::NotFound {
                return Ok(Written::NotFound);
            }
            pause().await;
            self.good.insert(successor, limit).await
        }
    }
}

fault! {
    /// Each of many sees that the key is there, and says that it has deleted it.
    AllHaveDeleted {
        async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
            if self.good.get(account, id).await?.is_none() {
                return Ok(Written::NotFound);
            }
            pause().await;
            let _ = self.good.delete(account, id, at).await?;
            Ok(Written::Done(()))
        }
    }
}

fault! {
    /// Lookups are answered from a copy, which hears of a deletion a moment later.
    HearsOfDeletionsLate(Arc<Mutex<HashMap<KeyId, Arc<KeyRecord>>>>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let copy = Arc::clone(&self.state.lock().unwrap());
            copy.lock().unwrap().insert(record.id.clone(), Arc::clone(&record));
            self.good.insert(record, limit).await
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let copy = Arc::clone(&self.state.lock().unwrap());
            let copy = copy.lock().unwrap();
            let copied = copy.values().find(|key| key.fingerprint() == fingerprint);
            let copied = copied.cloned().map(Entry::Live);
            Lookup::ready(Ok(copied.or_else(|| found(&self.good, fingerprint))))
        }

        async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
            let (copy, late) = (Arc::clone(&self.state.lock().unwrap()), id.clone());
            tokio::spawn(async move {
                pause().await;
                copy.lock().unwrap().remove(&late);
            });
            self.good.delete(account, id, at).await
        }
    }
}

fault! {
    /// Counts what it is about to delete, and another may delete first.
    CountsThenDeletes {
        async fn delete_all(&self, account: &AccountId, at: SystemTime) -> usize {
            let listed = self.good.list(account).await.unwrap();
            pause().await;
            for key in &listed {
                let _ = self.good.delete(account, &key.id, at).await.unwrap();
            }
            listed.len()
        }
    }
}

fault! {
    /// Reads a record, gives it another name, and writes the whole of it back.
    RenameWritesEverythingBack(HashMap<KeyId, Arc<KeyRecord>>) {
        async fn rename(&self, account: &AccountId, id: &KeyId, name: KeyName) -> Said<Arc<KeyRecord>> {
            let read = self.good.get(account, id).await?;
            pause().await;
            let written = self.good.rename(account, id, name.clone()).await?;
            if let Some(read) = read {
                let back = edited(&read, |it| it.name = name);
                self.state.lock().unwrap().insert(id.clone(), back);
            }
            Ok(written)
        }

        async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
            let back = self.state.lock().unwrap().get(id).cloned();
            if back.is_some() { back } else { self.good.get(account, id).await.unwrap() }
        }
    }
}

fault! {
    /// A version can be seen before what it wrote.
    VersionsComeEarly(Vec<Change>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            {
                let mut log = self.state.lock().unwrap();
                let version = Version::new(log.len() as u64 + 1);
                log.push(Change { version, fingerprint: record.fingerprint() });
            }
            pause().await;
            self.good.insert(record, limit).await
        }

        async fn changes(&self, since: Version) -> Changes {
            let log = self.state.lock().unwrap();
            let changes = log.iter().copied().filter(|change| change.version > since).collect();
            Changes::Known { latest: Version::new(log.len() as u64), changes }
        }
    }
}

fault! {
    /// Versions come from a sequence, and writes commit in another order.
    VersionsCommitOutOfOrder((u64, Vec<Change>)) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let version = {
                let mut state = self.state.lock().unwrap();
                state.0 += 1;
                Version::new(state.0)
            };
            if version.get() % 3 == 0 {
                pause().await;
            }
            let fingerprint = record.fingerprint();
            let written = self.good.insert(record, limit).await;
            let mut state = self.state.lock().unwrap();
            state.1.push(Change { version, fingerprint });
            state.1.sort_by_key(|change| change.version);
            written
        }

        async fn changes(&self, since: Version) -> Changes {
            let state = self.state.lock().unwrap();
            let latest = state.1.last().map(|change| change.version).unwrap_or_default();
            let changes = state.1.iter().copied().filter(|change| change.version > since).collect();
            Changes::Known { latest, changes }
        }
    }
}

fault! {
    /// Two steps, and nobody does the second when the caller goes away in between.
    RotatesHalfForWhoLeaves(HashSet<KeyId>) {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            let new = successor.id.clone();
            self.state.lock().unwrap().insert(new.clone());
            let written = self.good.rotate(account, id, successor, grace_ends, limit).await;
            pause().await;
            self.state.lock().unwrap().remove(&new);
            written
        }

        async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
            let mut listed = self.good.list(account).await.unwrap();
            listed.retain(|key| !self.state.lock().unwrap().contains(&key.id));
            listed
        }
    }
}

fault! {
    /// Takes the id, then files the key; who goes away in between leaves the id taken.
    TakesTheIdFirst(HashSet<KeyId>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            if !self.state.lock().unwrap().insert(record.id.clone()) {
                return Ok(Written::Taken);
            }
            pause().await;
            self.good.insert(record, limit).await
        }
    }
}
