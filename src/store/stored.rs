//! From what a store kept of a secret, or of its use, to what it means. A part that cannot be read is
//! damage, and is never guessed at. Knows no store.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Day, DayOfUse, Entry, KeyUsage, MOST_COUNTED};
use crate::digest::{AgentHash, Fingerprint, KeyDigest};
use crate::record::{EndCause, Hint, InvalidText, KeyRecord, Tombstone};

/// The parts of a secret, as texts and numbers; times in milliseconds since 1970.
pub(super) struct Stored<'a> {
    pub(super) fingerprint: &'a [u8],
    /// Gone once the secret was ended.
    pub(super) digest: Option<&'a [u8]>,
    pub(super) id: &'a str,
    pub(super) account: &'a str,
    pub(super) name: &'a str,
    pub(super) environment: Option<&'a str>,
    pub(super) scopes: &'a str,
    pub(super) sources: &'a str,
    pub(super) hint: &'a str,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) replaced_by: Option<&'a str>,
    pub(super) replaced_at: Option<i64>,
    pub(super) last_used_at: Option<i64>,
    pub(super) last_used_from: Option<&'a str>,
    pub(super) last_used_agent: Option<&'a [u8]>,
    pub(super) ended_at: Option<i64>,
    pub(super) ended_by: Option<&'a str>,
}

/// What is wrong with a stored part.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("{0}")]
    Text(#[from] InvalidText),
    #[error("the {0} is not one")]
    Value(&'static str),
}

impl Stored<'_> {
    pub(super) fn entry(&self) -> Result<Entry, Damage> {
        match self.digest {
            Some(digest) => Ok(Entry::Live(Arc::new(self.record(digest)?))),
            None => Ok(Entry::Ended(Arc::new(self.tombstone()?))),
        }
    }

    fn record(&self, digest: &[u8]) -> Result<KeyRecord, Damage> {
        let digest = digest.try_into().map_err(|_| Damage::Value("digest"))?;
        let digest = KeyDigest::from_bytes(digest);
        if digest.fingerprint() != self.fingerprint()? {
            return Err(Damage::Value("digest"));
        }
        let (id, account, name) = (self.id.parse()?, self.account.parse()?, self.name.parse()?);
        Ok(KeyRecord {
            environment: self.environment.map(str::parse).transpose()?,
            scopes: self.scopes.parse()?,
            sources: self.sources.parse()?,
            hint: if self.hint.is_empty() { Hint::default() } else { self.hint.parse()? },
            expires_at: self.expires_at.map(time).transpose()?,
            replaced_by: self.replaced_by.map(str::parse).transpose()?,
            replaced_at: self.replaced_at.map(time).transpose()?,
            last_used_at: self.last_used_at.map(time).transpose()?,
            last_used_from: self.last_used_from.map(address).transpose()?,
            last_used_agent: self.last_used_agent.map(agent).transpose()?,
            ..KeyRecord::new(id, account, name, digest, time(self.created_at)?)
        })
    }

    fn tombstone(&self) -> Result<Tombstone, Damage> {
        Ok(Tombstone {
            fingerprint: self.fingerprint()?,
            key: self.id.parse()?,
            account: self.account.parse()?,
            name: self.name.parse()?,
            cause: cause(self.ended_by)?,
            ended_at: time(self.ended_at.ok_or(Damage::Value("end"))?)?,
        })
    }

    fn fingerprint(&self) -> Result<Fingerprint, Damage> {
        let bytes = self.fingerprint.try_into().map_err(|_| Damage::Value("fingerprint"))?;
        Ok(Fingerprint::from_bytes(bytes))
    }
}

/// What was counted of a key on one day, as numbers likewise.
pub(super) struct StoredUse<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) ended_at: Option<i64>,
    pub(super) day: i64,
    pub(super) requests: i64,
    pub(super) refusals: i64,
}

impl StoredUse<'_> {
    /// Adds the day to the usage of its key, which is the last there, if it is there.
    pub(super) fn add_to(&self, usage: &mut Vec<KeyUsage>) -> Result<(), Damage> {
        let number = |number: i64| u64::try_from(number).map_err(|_| Damage::Value("count"));
        let day = u32::try_from(self.day).map_err(|_| Damage::Value("day"))?;
        let (requests, refusals) = (number(self.requests)?, number(self.refusals)?);
        let day = DayOfUse { day: Day::from_number(day), requests, refusals };
        match usage.last_mut().filter(|last| last.key.as_str() == self.id) {
            Some(last) => last.days.push(day),
            None => usage.push(KeyUsage {
                key: self.id.parse()?,
                name: self.name.parse()?,
                ended_at: self.ended_at.map(time).transpose()?,
                days: vec![day],
            }),
        }
        Ok(())
    }
}

/// A count as SQL counts, where counts stop.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number.min(MOST_COUNTED)).unwrap_or(i64::MAX)
}

pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(milliseconds: i64) -> Result<SystemTime, Damage> {
    u64::try_from(milliseconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since)))
        .ok_or(Damage::Value("time"))
}

fn address(text: &str) -> Result<IpAddr, Damage> {
    text.parse().map_err(|_| Damage::Value("address"))
}

fn agent(bytes: &[u8]) -> Result<AgentHash, Damage> {
    bytes.try_into().map(AgentHash::from_bytes).map_err(|_| Damage::Value("hash of an agent"))
}

fn cause(word: Option<&str>) -> Result<EndCause, Damage> {
    [EndCause::Deleted, EndCause::Regenerated, EndCause::Rotated, EndCause::Rehashed]
        .into_iter()
        .find(|cause| Some(cause.as_str()) == word)
        .ok_or(Damage::Value("cause of the end"))
}
