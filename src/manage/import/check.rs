//! How a row stands to what is in the store and to the rows before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;
use std::time::SystemTime;

use super::row::{ImportedKey, RowRefusal};
use crate::digest::{Fingerprint, KeyDigest};
use crate::manage::new_key::expiry;
use crate::manage::{KeyManager, ManageError, generate};
use crate::record::{AccountId, EndCause, Hint, KeyId, KeyRecord};
use crate::store::{Entry, KeyRegistry, StoreError};

/// A row that can be filed.
pub(super) struct Checked {
    pub(super) line: usize,
    /// The row's own.
    pub(super) id: Option<KeyId>,
    pub(super) record: Arc<KeyRecord>,
}

/// How a row stands.
pub(super) enum Standing<T> {
    New(T),
    /// It was imported before.
    Already,
    Refused(RowRefusal),
}

/// What is known while one row after the other is checked.
pub(super) struct Checks<'a> {
    manager: &'a KeyManager,
    limit: usize,
    allows_weak: bool,
    now: SystemTime,
    secrets: HashMap<Fingerprint, usize>,
    ids: HashMap<KeyId, usize>,
    /// Of each account the ends of the keys that it has, or will have by the rows before.
    ends: HashMap<AccountId, Vec<Option<SystemTime>>>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(manager: &'a KeyManager, limit: usize, allows_weak: bool) -> Self {
        Self {
            manager,
            limit,
            allows_weak,
            now: manager.now(),
            secrets: HashMap::new(),
            ids: HashMap::new(),
            ends: HashMap::new(),
        }
    }

    pub(super) async fn check(
        &mut self,
        row: &ImportedKey,
    ) -> Result<Standing<Checked>, ManageError> {
        let (digest, older) = match row.digests(&self.manager.hashing, self.allows_weak) {
            Ok(digests) => digests,
            Err(refusal) => return Ok(Standing::Refused(refusal)),
        };
        for digest in [&digest].into_iter().chain(&older) {
            match self.secrets.entry(digest.fingerprint()) {
                Place::Vacant(place) => drop(place.insert(row.line)),
                Place::Occupied(first) => {
                    return Ok(Standing::Refused(RowRefusal::Repeated(*first.get())));
                }
            }
        }
        for digest in [&digest].into_iter().chain(&older) {
            let (account, id) = (&row.account, row.id.as_ref());
            if let Some(standing) =
                standing(&*self.manager.registry, account, id, digest, &row.hint()).await?
            {
                return Ok(standing);
            }
        }
        if let Err(refusal) = self.id(row).await? {
            return Ok(Standing::Refused(refusal));
        }
        match self.record(row, digest)? {
            Ok(record) if self.has_room(&record).await? => {
                Ok(Standing::New(Checked { line: row.line, id: row.id.clone(), record }))
            }
            Ok(_) => Ok(Standing::Refused(RowRefusal::LimitReached { limit: self.limit })),
            Err(refusal) => Ok(Standing::Refused(refusal)),
        }
    }

    /// Whether a row's own id is free.
    async fn id(&mut self, row: &ImportedKey) -> Result<Result<(), RowRefusal>, StoreError> {
        let Some(id) = &row.id else { return Ok(Ok(())) };
        if let Some(first) = self.ids.get(id) {
            return Ok(Err(RowRefusal::RepeatedId(*first)));
        }
        self.ids.insert(id.clone(), row.line);
        let other = self.manager.registry.get(&row.account, id).await?;
        Ok(if other.is_some() { Err(RowRefusal::IdInUse) } else { Ok(()) })
    }

    /// The record that a row is to become.
    fn record(
        &self,
        row: &ImportedKey,
        digest: KeyDigest,
    ) -> Result<Result<Arc<KeyRecord>, RowRefusal>, ManageError> {
        let created_at = match row.created_at.map(|time| expiry(Some(time))) {
            None => self.now,
            Some(Ok(time)) if time <= self.now => time,
            Some(_) => return Ok(Err(RowRefusal::InvalidCreation)),
        };
        let expires_at = match row.expires_at.map(|end| expiry(Some(end))) {
            None => None,
            Some(Ok(end)) if end > self.now => Some(end),
            Some(_) => return Ok(Err(RowRefusal::InvalidExpiry)),
        };
        let id = row.id.clone().map_or_else(generate::id, Ok)?;
        Ok(Ok(Arc::new(KeyRecord {
            environment: row.environment.clone(),
            scopes: row.scopes.clone(),
            sources: row.sources.clone(),
            hint: row.hint(),
            expires_at,
            ..KeyRecord::new(id, row.account.clone(), row.name.clone(), digest, created_at)
        })))
    }

    /// Whether the account has room for one more, as the store will count; if so, it is taken up.
    async fn has_room(&mut self, record: &KeyRecord) -> Result<bool, StoreError> {
        let ends = match self.ends.entry(record.account.clone()) {
            Place::Occupied(known) => known.into_mut(),
            Place::Vacant(place) => {
                let listed = self.manager.registry.list(&record.account).await?;
                place.insert(listed.iter().map(|key| key.expires_at).collect())
            }
        };
        let is_active = |end: &&Option<SystemTime>| end.is_none_or(|end| end > record.created_at);
        let has_room = ends.iter().filter(is_active).count() < self.limit;
        if has_room {
            ends.push(record.expires_at);
        }
        Ok(has_room)
    }
}

/// How a row stands to what is filed under its digest; `None` where that is nothing.
pub(super) async fn standing<T>(
    registry: &dyn KeyRegistry,
    account: &AccountId,
    id: Option<&KeyId>,
    digest: &KeyDigest,
    hint: &Hint,
) -> Result<Option<Standing<T>>, StoreError> {
    let is_it = |owner: &AccountId, key: &KeyId| owner == account && id.is_none_or(|id| id == key);
    Ok(Some(match registry.find(digest.fingerprint()).await? {
        None => return Ok(None),
        Some(Entry::Live(key)) if digest.matches(&key.digest) && is_it(&key.account, &key.id) => {
            Standing::Already
        }
        Some(Entry::Ended(left)) if is_it(&left.account, &left.key) => {
            // With another hint it was given another text since.
            let now = registry.get(account, &left.key).await?;
            let is_upgraded =
                left.cause == EndCause::Rehashed && now.is_some_and(|key| key.hint == *hint);
            if is_upgraded { Standing::Already } else { Standing::Refused(RowRefusal::Ended) }
        }
        Some(_) => Standing::Refused(RowRefusal::InUse),
    }))
}
