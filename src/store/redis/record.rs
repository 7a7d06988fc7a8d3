//! Between the texts that Redis keeps and records. A text that cannot be read is damaged, and is
//! passed over with an error event; it is never guessed at.
//!
//! A text has a line for each field: its name, a space, its value. No value has a line break, because
//! none of a record's texts may have one. Fields that a later version adds are passed over.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::digest::{AgentHash, Fingerprint, KeyDigest};
use crate::record::{AccountId, EndCause, Hint, InvalidText, KeyRecord, Tombstone};
use crate::store::{Change, Changes, Entry, Version};

/// One of an account's keys, as a script lists it.
pub(super) struct Listed<'a> {
    pub(super) id: &'a [u8],
    pub(super) fingerprint: &'a [u8],
    pub(super) record: &'a [u8],
}

/// The text of a live record.
pub(super) fn text(record: &KeyRecord) -> String {
    let mut text = format!(
        "digest {}\nid {}\naccount {}\nname {}\nscopes {}\nhint {}\ncreated_at {}\n",
        digest(&record.digest),
        record.id,
        record.account,
        record.name,
        record.scopes,
        record.hint,
        milliseconds(record.created_at),
    );
    let mut add = |field: &str, value: Option<String>| {
        // Writing to a string does not fail.
        let _ = value.map(|value| writeln!(text, "{field} {value}"));
    };
    add("environment", record.environment.as_ref().map(ToString::to_string));
    let sources = Some(&record.sources).filter(|sources| !sources.is_anywhere());
    add("sources", sources.map(ToString::to_string));
    add("expires_at", record.expires_at.map(|time| milliseconds(time).to_string()));
    add("replaced_by", record.replaced_by.as_ref().map(ToString::to_string));
    add("replaced_at", record.replaced_at.map(|time| milliseconds(time).to_string()));
    add("last_used_at", record.last_used_at.map(|time| milliseconds(time).to_string()));
    add("last_used_from", record.last_used_from.map(|address| address.to_string()));
    add("last_used_agent", record.last_used_agent.map(|agent| agent.to_string()));
    text
}

/// A digest as it is kept.
pub(super) fn digest(digest: &KeyDigest) -> String {
    hex::encode(digest.as_bytes())
}

pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a text holds, unless it is damaged.
pub(super) fn entry(fingerprint: Fingerprint, text: &[u8]) -> Option<Entry> {
    read(fingerprint, text).inspect_err(|damage| passed_over(&fingerprint, damage)).ok()
}

/// The live record that a text holds, unless it is damaged or another one than is listed.
pub(super) fn live(account: &AccountId, listed: &Listed<'_>) -> Option<Arc<KeyRecord>> {
    read_listed(account, listed)
        .inspect_err(|damage| {
            passed_over(&String::from_utf8_lossy(listed.fingerprint).escape_debug(), damage);
        })
        .ok()
}

/// What came after `since`, out of the latest version and the versions and fingerprints that follow
/// it. Where one is damaged, nobody knows what else is: whoever asks starts anew.
pub(super) fn changes(since: Version, found: &[Vec<u8>]) -> Result<Changes, Damage> {
    let (latest, found) = found.split_first().ok_or(Damage::Value("version"))?;
    let latest = version(latest)?;
    if !Changes::are_known(since, latest) {
        return Ok(Changes::Forgotten { latest });
    }
    let (pairs, _) = found.as_chunks::<2>();
    let changes: Result<_, _> = pairs.iter().map(change).collect();
    Ok(changes.map_or_else(
        |damage| {
            passed_over(&"a change", &damage);
            Changes::Forgotten { latest }
        },
        |changes| Changes::Known { latest, changes },
    ))
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("the {0} is missing")]
    Missing(&'static str),
    #[error("{0}")]
    Text(#[from] InvalidText),
    #[error("the {0} is not one")]
    Value(&'static str),
}

pub(super) fn passed_over(what: &dyn std::fmt::Display, damage: &Damage) {
    tracing::error!(target: "tower_api_key", store = "redis", fingerprint = %what, %damage, "a damaged record was passed over");
}

fn change([number, secret]: &[Vec<u8>; 2]) -> Result<Change, Damage> {
    Ok(Change { version: version(number)?, fingerprint: fingerprint(secret)? })
}

fn read_listed(account: &AccountId, listed: &Listed<'_>) -> Result<Arc<KeyRecord>, Damage> {
    match read(fingerprint(listed.fingerprint)?, listed.record)? {
        Entry::Live(record)
            if record.account == *account && record.id.as_str().as_bytes() == listed.id =>
        {
            Ok(record)
        }
        _ => Err(Damage::Value("listed record")),
    }
}

/// What a text holds.
pub(super) fn read(fingerprint: Fingerprint, text: &[u8]) -> Result<Entry, Damage> {
    let fields = Fields::of(text)?;
    let id = fields.get("id")?.parse()?;
    let account = fields.get("account")?.parse()?;
    let name = fields.get("name")?.parse()?;
    let Some(digest) = fields.find("digest") else {
        return Ok(Entry::Ended(Arc::new(Tombstone {
            fingerprint,
            key: id,
            account,
            name,
            cause: cause(fields.get("ended_by")?)?,
            ended_at: time(fields.get("ended_at")?)?,
        })));
    };
    let mut bytes = [0; 32];
    hex::decode_to_slice(digest, &mut bytes).map_err(|_| Damage::Value("digest"))?;
    let digest = KeyDigest::from_bytes(bytes);
    if digest.fingerprint() != fingerprint {
        return Err(Damage::Value("digest"));
    }
    if fields.find("ended_at").is_some() || fields.find("ended_by").is_some() {
        return Err(Damage::Value("end of a live record"));
    }
    Ok(Entry::Live(Arc::new(KeyRecord {
        environment: fields.find("environment").map(str::parse).transpose()?,
        scopes: fields.get("scopes")?.parse()?,
        sources: fields.find("sources").map(str::parse).transpose()?.unwrap_or_default(),
        hint: hint(fields.get("hint")?)?,
        expires_at: fields.find("expires_at").map(time).transpose()?,
        replaced_by: fields.find("replaced_by").map(str::parse).transpose()?,
        replaced_at: fields.find("replaced_at").map(time).transpose()?,
        last_used_at: fields.find("last_used_at").map(time).transpose()?,
        last_used_from: fields.find("last_used_from").map(address).transpose()?,
        last_used_agent: fields.find("last_used_agent").map(agent).transpose()?,
        ..KeyRecord::new(id, account, name, digest, time(fields.get("created_at")?)?)
    })))
}

/// The fields of a text.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    fn of(text: &'a [u8]) -> Result<Self, Damage> {
        let text = str::from_utf8(text).map_err(|_| Damage::Value("text"))?;
        let lines = text.strip_suffix('\n').ok_or(Damage::Value("end of the text"))?.split('\n');
        let mut fields = Vec::with_capacity(15);
        for line in lines {
            let (name, value) = line.split_once(' ').ok_or(Damage::Value("field"))?;
            if fields.iter().any(|(other, _)| *other == name) {
                return Err(Damage::Value("field that stands twice"));
            }
            fields.push((name, value));
        }
        Ok(Self(fields))
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    fn get(&self, name: &'static str) -> Result<&'a str, Damage> {
        self.find(name).ok_or(Damage::Missing(name))
    }
}

pub(super) fn fingerprint(text: &[u8]) -> Result<Fingerprint, Damage> {
    let mut bytes = [0; 8];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Damage::Value("fingerprint"))?;
    Ok(Fingerprint::from_bytes(bytes))
}

fn address(text: &str) -> Result<IpAddr, Damage> {
    text.parse().map_err(|_| Damage::Value("address"))
}

fn agent(text: &str) -> Result<AgentHash, Damage> {
    let mut bytes = [0; 8];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Damage::Value("hash of an agent"))?;
    Ok(AgentHash::from_bytes(bytes))
}

fn version(text: &[u8]) -> Result<Version, Damage> {
    let text = str::from_utf8(text).map_err(|_| Damage::Value("version"))?;
    number(text).map(Version::new).ok_or(Damage::Value("version"))
}

fn time(text: &str) -> Result<SystemTime, Damage> {
    number(text)
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(since)))
        .ok_or(Damage::Value("time"))
}

/// A number as this store writes it: digits alone, as the scripts want it too.
pub(super) fn number(text: &str) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn hint(text: &str) -> Result<Hint, InvalidText> {
    if text.is_empty() { Ok(Hint::default()) } else { text.parse() }
}

fn cause(word: &str) -> Result<EndCause, Damage> {
    [EndCause::Deleted, EndCause::Regenerated, EndCause::Rotated, EndCause::Rehashed]
        .into_iter()
        .find(|cause| cause.as_str() == word)
        .ok_or(Damage::Value("cause of the end"))
}
