//! Faults in giving a key another digest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tower_api_key::{
    AccountId, Entry, Fingerprint, KeyDigest, KeyId, KeyRecord, KeyRegistry as _, Lookup, Use,
    Written,
};

use super::faulty::{Said, edited, fault, found, pause};

fault! {
    RehashForgetsTheName {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            old: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let written = self.good.rehash(account, id, old, digest, at).await?;
            if let Written::Done(_) = written {
                return self.good.rename(account, id, "Unnamed".parse().unwrap()).await;
            }
            Ok(written)
        }
    }
}

fault! {
    /// Adds a row for the new digest, and leaves the old one as it is.
    RehashLeavesTheOldDigest(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            old: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let before = self.good.get(account, id).await?;
            let written = self.good.rehash(account, id, old, digest, at).await?;
            if let (Written::Done(_), Some(before)) = (&written, before) {
                self.state.lock().unwrap().insert(old, before);
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
    /// `WHERE key_id = ?`, whatever secret the key has by then.
    RehashUndoesANewSecret {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            _: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(key) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            self.good.rehash(account, id, key.fingerprint(), digest, at).await
        }
    }
}

fault! {
    /// Looks at the secret, and writes a moment later.
    RehashesWhatItRead {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            old: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let key = self.good.get(account, id).await?;
            if key.is_none_or(|key| key.fingerprint() != old) {
                return Ok(Written::NotFound);
            }
            pause().await;
            let Some(key) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            self.good.rehash(account, id, key.fingerprint(), digest, at).await
        }
    }
}

fault! {
    /// An upsert of a key that was there when it looked.
    RehashRevives(HashMap<Fingerprint, Arc<KeyRecord>>) {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            old: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let Some(key) = self.good.get(account, id).await? else { return Ok(Written::NotFound) };
            pause().await;
            let new = edited(&key, |it| it.digest = digest.clone());
            Ok(match self.good.rehash(account, id, old, digest, at).await? {
                Written::NotFound if key.fingerprint() == old => {
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
    /// `ON CONFLICT DO NOTHING`, after the old digest was ended.
    RehashIgnoresConflicts {
        async fn rehash(
            &self,
            account: &AccountId,
            id: &KeyId,
            old: Fingerprint,
            digest: KeyDigest,
            at: SystemTime,
        ) -> Said<Arc<KeyRecord>> {
            let written = self.good.rehash(account, id, old, digest, at).await?;
            if matches!(written, Written::Taken) {
                let _ = self.good.delete(account, id, at).await?;
            }
            Ok(written)
        }
    }
}

fault! {
    PassesOverUsesOfRehashedSecrets {
        async fn mark_used(&self, uses: &[Use]) {
            let is_live = |of: &&Use| matches!(found(&self.good, of.fingerprint), Some(Entry::Live(_)));
            let uses: Vec<_> = uses.iter().filter(is_live).copied().collect();
            self.good.mark_used(&uses).await.unwrap();
        }
    }
}
