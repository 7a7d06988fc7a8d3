//! Faults that show when calls come one after the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tower_api_key::{
    AccountId, Entry, Fingerprint, KeyId, KeyName, KeyRecord, KeyRegistry as _, Lookup, NewSecret,
    Scopes, Sources, Use, Written,
};

use super::faulty::{Said, edited, fault, found};

fault! {
    /// Has no fault, so that the others are known to fail by theirs.
    NoFault {}
}

fault! {
    /// Has no column for scopes.
    ForgetsScopes {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.good.insert(edited(&record, |it| it.scopes = Scopes::default()), limit).await
        }
    }
}

fault! {
    /// Has no column for addresses: a key that was bound to some works from anywhere.
    ForgetsSources {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.good.insert(edited(&record, |it| it.sources = Sources::default()), limit).await
        }
    }
}

fault! {
    /// Has a column for eight of them.
    ForgetsManySources {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let sources = record.sources.to_string();
            let first: Vec<_> = sources.split(' ').take(8).collect();
            let first = first.join(" ").parse().unwrap();
            self.good.insert(edited(&record, |it| it.sources = first), limit).await
        }
    }
}

fault! {
    ReplaceForgetsSources {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            Ok(match self.good.replace(account, id, secret, at).await? {
                Written::Done(record) => {
                    Written::Done(edited(&record, |it| it.sources = Sources::default()))
                }
                written => written,
            })
        }
    }
}

fault! {
    /// Says that it has done what there was nothing to do for.
    AlwaysDone {
        async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
            let _ = self.good.delete(account, id, at).await?;
            Ok(Written::Done(()))
        }
    }
}

fault! {
    NewestFirst {
        async fn list(&self, account: &AccountId) -> Vec<Arc<KeyRecord>> {
            self.good.list(account).await.unwrap().into_iter().rev().collect()
        }
    }
}

fault! {
    /// `WHERE key_id = ?`, and no account.
    GetForgetsTheAccount(HashMap<KeyId, AccountId>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.state.lock().unwrap().insert(record.id.clone(), record.account.clone());
            self.good.insert(record, limit).await
        }

        async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
            let owner = self.state.lock().unwrap().get(id).cloned();
            self.good.get(owner.as_ref().unwrap_or(account), id).await.unwrap()
        }
    }
}

fault! {
    DeleteForgetsTheAccount(HashMap<KeyId, AccountId>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.state.lock().unwrap().insert(record.id.clone(), record.account.clone());
            self.good.insert(record, limit).await
        }

        async fn delete(&self, account: &AccountId, id: &KeyId, at: SystemTime) -> Said<()> {
            let owner = self.state.lock().unwrap().get(id).cloned();
            self.good.delete(owner.as_ref().unwrap_or(account), id, at).await
        }
    }
}

fault! {
    /// A cache that nothing invalidates.
    RemembersAnswers(HashMap<Fingerprint, Option<Entry>>) {
        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let mut answers = self.state.lock().unwrap();
            let answer = answers.entry(fingerprint).or_insert_with(|| found(&self.good, fingerprint));
            Lookup::ready(Ok(answer.clone()))
        }
    }
}

fault! {
    OneTooMany {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            self.good.insert(record, limit + 1).await
        }
    }
}

fault! {
    CountsExpiredKeys {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            if self.good.list(&record.account).await?.len() >= limit {
                return Ok(Written::Refused);
            }
            self.good.insert(record, limit).await
        }
    }
}

fault! {
    /// `ON CONFLICT DO NOTHING`, and nobody looks how many rows that were.
    IgnoresConflicts {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let written = self.good.insert(record, limit).await?;
            Ok(if written == Written::Taken { Written::Done(()) } else { written })
        }
    }
}

fault! {
    RenameForgetsScopes {
        async fn rename(&self, account: &AccountId, id: &KeyId, name: KeyName) -> Said<Arc<KeyRecord>> {
            Ok(match self.good.rename(account, id, name).await? {
                Written::Done(record) => {
                    Written::Done(edited(&record, |it| it.scopes = Scopes::default()))
                }
                written => written,
            })
        }
    }
}

fault! {
    ReplaceKeepsTheHint {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(old) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            let secret = NewSecret::new(secret.digest, old.hint.clone());
            self.good.replace(account, id, secret, at).await
        }
    }
}

fault! {
    /// Ends the old secret and then finds that it cannot file the new one.
    ReplaceDoesHalf {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let written = self.good.replace(account, id, secret, at).await?;
            if matches!(written, Written::Taken) {
                let _ = self.good.delete(account, id, at).await?;
            }
            Ok(written)
        }
    }
}

fault! {
    LosesTheSuccessor {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            let (new, at) = (successor.id.clone(), successor.created_at);
            let written = self.good.rotate(account, id, successor, grace_ends, limit).await?;
            if written == Written::Done(()) {
                let _ = self.good.delete(account, &new, at).await?;
            }
            Ok(written)
        }
    }
}

fault! {
    /// Sets the old key's expiry to the end of the grace, whatever it was.
    LengthensLives(HashMap<KeyId, SystemTime>) {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            self.state.lock().unwrap().extend(grace_ends.map(|end| (id.clone(), end)));
            self.good.rotate(account, id, successor, grace_ends, limit).await
        }

        async fn get(&self, account: &AccountId, id: &KeyId) -> Option<Arc<KeyRecord>> {
            let got = self.good.get(account, id).await.unwrap()?;
            let end = self.state.lock().unwrap().get(id).copied();
            Some(edited(&got, |it| it.expires_at = end.or(it.expires_at)))
        }
    }
}

fault! {
    RotateIgnoresTheCap {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            _: usize,
        ) -> Said<()> {
            self.good.rotate(account, id, successor, grace_ends, usize::MAX).await
        }
    }
}

fault! {
    /// Counts the old key as it was before its grace, also when that is over when it begins.
    CountsBeforeItSupersedes {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            let active = self.good.list(account).await?.len();
            if grace_ends.is_some() && active >= limit {
                return Ok(Written::Refused);
            }
            self.good.rotate(account, id, successor, grace_ends, limit).await
        }
    }
}

fault! {
    /// Without a grace, the old key expires "now", and works again when the clock is set back.
    EndsByExpiry {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            let limit = limit + usize::from(grace_ends.is_none());
            let grace_ends = grace_ends.or(Some(successor.created_at));
            self.good.rotate(account, id, successor, grace_ends, limit).await
        }
    }
}

fault! {
    RotatesAgain {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            let new = Arc::clone(&successor);
            match self.good.rotate(account, id, new, grace_ends, limit).await? {
                Written::Superseded => self.good.insert(successor, limit).await,
                written => Ok(written),
            }
        }
    }
}

fault! {
    /// `WHERE key_id = ?`, and nothing about a successor.
    ReplacesWhatWasRotated {
        async fn replace(
            &self,
            account: &AccountId,
            id: &KeyId,
            secret: NewSecret,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(old) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            let new = edited(&old, |it| it.digest = secret.digest.clone());
            Ok(match self.good.replace(account, id, secret, at).await? {
                Written::Superseded => Written::Done(new),
                written => written,
            })
        }
    }
}

fault! {
    RotatesIntoAnotherAccount {
        async fn rotate(
            &self,
            account: &AccountId,
            id: &KeyId,
            successor: Arc<KeyRecord>,
            grace_ends: Option<SystemTime>,
            limit: usize,
        ) -> Said<()> {
            if successor.account != *account {
                return self.good.insert(successor, limit).await;
            }
            self.good.rotate(account, id, successor, grace_ends, limit).await
        }
    }
}

fault! {
    LeavesNoTombstone {
        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let found = found(&self.good, fingerprint);
            Lookup::ready(Ok(found.filter(|entry| matches!(entry, Entry::Live(_)))))
        }
    }
}

fault! {
    /// An upsert: a note that comes late files the key again.
    UseRevives(HashMap<Fingerprint, (Arc<KeyRecord>, bool)>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            let known = (Arc::clone(&record), false);
            self.state.lock().unwrap().insert(record.fingerprint(), known);
            self.good.insert(record, limit).await
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            if let Some((record, true)) = self.state.lock().unwrap().get(&fingerprint) {
                return Lookup::ready(Ok(Some(Entry::Live(Arc::clone(record)))));
            }
            Lookup::ready(Ok(found(&self.good, fingerprint)))
        }

        async fn mark_used(&self, uses: &[Use]) {
            self.good.mark_used(uses).await.unwrap();
            for used in uses {
                let is_ended = matches!(found(&self.good, used.fingerprint), Some(Entry::Ended(_)));
                if let Some((_, is_revived)) = self.state.lock().unwrap().get_mut(&used.fingerprint) {
                    *is_revived = is_ended;
                }
            }
        }
    }
}

fault! {
    /// Only live secrets are taken.
    FilesOverTombstones(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn insert(&self, record: Arc<KeyRecord>, limit: usize) -> Said<()> {
            if let Some(Entry::Ended(_)) = found(&self.good, record.fingerprint()) {
                self.state.lock().unwrap().insert(record.fingerprint(), record);
                return Ok(Written::Done(()));
            }
            self.good.insert(record, limit).await
        }

        fn find(&self, fingerprint: Fingerprint) -> Lookup {
            let revived = self.state.lock().unwrap().get(&fingerprint).cloned();
            let revived = revived.map(Entry::Live);
            Lookup::ready(Ok(revived.or_else(|| found(&self.good, fingerprint))))
        }
    }
}

fault! {
    DeletesOnlyActiveKeys {
        async fn delete_all(&self, account: &AccountId, at: SystemTime) -> usize {
            let mut deleted = 0;
            for key in self.good.list(account).await.unwrap() {
                if !key.is_expired(at) {
                    let _ = self.good.delete(account, &key.id, at).await.unwrap();
                    deleted += 1;
                }
            }
            deleted
        }
    }
}
