//! Management: what each operation tells its script, and what it makes of the answer.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::record::{self, milliseconds};
use super::scripts::{self, Answer, Call, listed, written};
use super::usage::with_use;
use super::{RedisStore, Shared};
use crate::digest::{Fingerprint, KeyDigest};
use crate::record::{AccountId, KeyId, KeyName, KeyRecord};
use crate::store::{
    CHANGES_KEPT, Changes, Day, KeyRegistry, KeyUsage, NewSecret, StoreError, USAGE_KEPT, Use,
    Version, Written, fleet,
};

/// How many uses are noted in one go, 50 µs or so each: Redis answers nobody else meanwhile.
const USES_AT_ONCE: usize = 200;

/// How many expired keys are ended in one go, where an account has more than so many.
const EXPIRED_AT_ONCE: usize = 1000;

#[async_trait::async_trait]
impl KeyRegistry for RedisStore {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let call = Call::write(&scripts::INSERT, &self.0.keys, &record.account)
            .with(record.fingerprint().to_string())
            .with(record.id.as_str())
            .with(record::text(&record))
            .with(milliseconds(record.created_at))
            .with(limit);
        Ok(done(self.0.write(self.0.management.deadline(), call).await?))
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        let call = Call::write(&scripts::INSERT_FIRST, &self.0.keys, &record.account)
            .with(record.fingerprint().to_string())
            .with(record.id.as_str())
            .with(record::text(&record));
        Ok(done(self.0.write(self.0.management.deadline(), call).await?))
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let deadline = self.0.management.deadline();
        let mut records = loop {
            if let Some(records) = self.0.list(deadline, account).await? {
                break records;
            }
        };
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        // A key may stand in two pages.
        records.dedup_by(|a, b| a.id == b.id);
        Ok(records)
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.0.live(self.0.management.deadline(), account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let deadline = self.0.management.deadline();
        if self.0.live(deadline, account, id).await?.is_none() {
            return Ok(Written::NotFound);
        }
        let call = Call::write(&scripts::RENAME, &self.0.keys, account)
            .with(id.as_str())
            .with(name.as_str());
        let written = self.0.write(deadline, call).await?;
        Ok(giving(written, |answer| first(account, &answer)))
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let deadline = self.0.management.deadline();
        if self.0.live(deadline, account, id).await?.is_none() {
            return Ok(Written::NotFound);
        }
        let call = Call::write(&scripts::REPLACE, &self.0.keys, account)
            .with(id.as_str())
            .with(account.as_str())
            .with(secret.digest.fingerprint().to_string())
            .with(record::digest(&secret.digest))
            .with(secret.hint.as_str())
            .with(milliseconds(at));
        let written = self.0.write(deadline, call).await?;
        Ok(giving(written, |answer| first(account, &answer)))
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        let deadline = self.0.management.deadline();
        if self.0.live(deadline, account, id).await?.is_none() {
            return Ok(Written::NotFound);
        }
        let call = Call::write(&scripts::REHASH, &self.0.keys, account)
            .with(id.as_str())
            .with(account.as_str())
            .with(old.to_string())
            .with(digest.fingerprint().to_string())
            .with(record::digest(&digest))
            .with(milliseconds(at));
        let written = self.0.write(deadline, call).await?;
        Ok(giving(written, |answer| first(account, &answer)))
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let deadline = self.0.management.deadline();
        if successor.account != *account || self.0.live(deadline, account, id).await?.is_none() {
            return Ok(Written::NotFound);
        }
        let script = match grace_ends {
            Some(_) => &scripts::ROTATE_WITH_GRACE,
            None => &scripts::ROTATE_AT_ONCE,
        };
        let call = Call::write(script, &self.0.keys, account)
            .with(id.as_str())
            .with(account.as_str())
            .with(successor.fingerprint().to_string())
            .with(successor.id.as_str())
            .with(record::text(&successor))
            .with(milliseconds(successor.created_at))
            .with(limit)
            .with(grace_ends.map(|time| milliseconds(time).to_string()).unwrap_or_default());
        Ok(done(self.0.write(deadline, call).await?))
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        let call = Call::write(&scripts::DELETE, &self.0.keys, account)
            .with(account.as_str())
            .with(milliseconds(at))
            .with(id.as_str());
        Ok(done(self.0.write(self.0.management.deadline(), call).await?))
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        let deadline = self.0.management.deadline();
        let mut ended = 0;
        loop {
            let call = Call::write(&scripts::DELETE_ALL, &self.0.keys, account)
                .with(account.as_str())
                .with(milliseconds(at))
                .with(EXPIRED_AT_ONCE);
            let answer = scripts::read(self.0.call(deadline, call).await?)?;
            let (number, more) = (answer.first(), answer.get(1));
            let number = number.and_then(|text| str::from_utf8(text).ok()?.parse::<usize>().ok());
            ended += number
                .ok_or_else(|| StoreError::unavailable("redis", "a script gave no number"))?;
            if more.is_none() {
                return Ok(ended);
            }
        }
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        for uses in uses.chunks(USES_AT_ONCE) {
            let call = Call::new(&scripts::MARK_USED, &self.0.keys);
            let call = uses.iter().fold(call.with(scripts::LAYOUT).with(USAGE_KEPT), with_use);
            scripts::read(self.0.call(self.0.management.deadline(), call).await?)?;
        }
        Ok(())
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.0.usage(self.0.management.deadline(), account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        let call = Call::new(&scripts::CHANGES, &self.0.keys)
            .with(since.get())
            .with(since.get().saturating_add(1))
            .with(CHANGES_KEPT);
        let found = scripts::read(self.0.call_beside_lookups(call).await?)?;
        record::changes(since, &found).map_err(|damage| StoreError::unavailable("redis", damage))
    }

    async fn settle(&self) {
        fleet::settle(self, &self.0.looks).await;
    }
}

impl Shared {
    async fn write(&self, deadline: Instant, call: Call) -> Result<Written<Answer>, StoreError> {
        written(self.call(deadline, call).await?)
    }

    /// The account's records page by page, because Redis answers nobody else while it makes one; or
    /// nothing, where a write to the account came between two pages, which are then of two moments.
    async fn list(
        &self,
        deadline: Instant,
        account: &AccountId,
    ) -> Result<Option<Vec<Arc<KeyRecord>>>, StoreError> {
        let (mut records, mut version) = (Vec::new(), None);
        let mut place = Some(b"0".to_vec());
        while let Some(from) = place {
            let call = Call::of(&scripts::LIST, &self.keys, account).with(from);
            let page = scripts::page(scripts::read(self.call(deadline, call).await?)?)?;
            if version.get_or_insert_with(|| page.version.clone()) != &page.version {
                return Ok(None);
            }
            records.extend(listed(&page.keys).filter_map(|listed| record::live(account, &listed)));
            place = page.next;
        }
        Ok(Some(records))
    }

    /// A record, unless it is damaged. What changes a record asks this first, because no script can
    /// tell whether all of a record can be read.
    async fn live(
        &self,
        deadline: Instant,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let call = Call::of(&scripts::GET, &self.keys, account).with(id.as_str());
        Ok(first(account, &scripts::read(self.call(deadline, call).await?)?))
    }
}

fn first(account: &AccountId, answer: &Answer) -> Option<Arc<KeyRecord>> {
    listed(answer).find_map(|listed| record::live(account, &listed))
}

/// What became of a write that gives something; where that is not there, neither is the key.
fn giving<T>(written: Written<Answer>, read: impl FnOnce(Answer) -> Option<T>) -> Written<T> {
    match written {
        Written::Done(answer) => read(answer).map_or(Written::NotFound, Written::Done),
        Written::NotFound => Written::NotFound,
        Written::Refused => Written::Refused,
        Written::Superseded => Written::Superseded,
        Written::Taken => Written::Taken,
    }
}

fn done(written: Written<Answer>) -> Written<()> {
    giving(written, |_| Some(()))
}
