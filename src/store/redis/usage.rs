//! What was counted of an account's keys: asked for page by page, and read.

use tokio::time::Instant;

use super::Shared;
use super::record::{self, Damage};
use super::scripts::{self, Answer, Call};
use crate::record::AccountId;
use crate::store::{Day, DayOfUse, Entry, KeyUsage, MOST_COUNTED, StoreError, Use};

/// Adds what a script is told of a use.
pub(super) fn with_use(call: Call, used: &Use) -> Call {
    call.with(used.fingerprint.to_string())
        .with(record::milliseconds(used.at))
        .with(Day::of(used.at).number())
        .with(used.requests.min(MOST_COUNTED))
        .with(used.refusals.min(MOST_COUNTED))
        .with(used.address.map(|address| address.to_string()).unwrap_or_default())
        .with(used.agent.map(|agent| agent.to_string()).unwrap_or_default())
}

impl Shared {
    pub(super) async fn usage(
        &self,
        deadline: Instant,
        account: &AccountId,
        since: Day,
    ) -> Result<Vec<KeyUsage>, StoreError> {
        let mut usage = Vec::new();
        let mut place = Some(b"0".to_vec());
        while let Some(from) = place {
            let call = Call::of_usage(&scripts::USAGE, &self.keys, account).with(from);
            let found = scripts::read(self.call(deadline, call).await?)?;
            place = add_page(account, since, &found, &mut usage)?;
        }
        usage.sort_by(|a, b| a.key.cmp(&b.key));
        // A key may stand in two pages.
        usage.dedup_by(|a, b| a.key == b.key);
        Ok(usage)
    }
}

/// Adds what a page holds, and gives where the next one begins.
fn add_page(
    account: &AccountId,
    since: Day,
    found: &Answer,
    usage: &mut Vec<KeyUsage>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let (next, found) = found
        .split_first()
        .ok_or_else(|| StoreError::unavailable("redis", "a script gave a page that is none"))?;
    let (keys, _) = found.as_chunks::<4>();
    for key in keys {
        match read(account, since, key) {
            Ok(used) => usage.extend(used),
            Err(damage) => {
                record::passed_over(&String::from_utf8_lossy(&key[2]).escape_debug(), &damage);
            }
        }
    }
    Ok((next != b"0").then(|| next.clone()))
}

/// One key's, unless it has nothing since that day.
fn read(
    account: &AccountId,
    since: Day,
    [id, days, fingerprint, text]: &[Vec<u8>; 4],
) -> Result<Option<KeyUsage>, Damage> {
    let days = counted(days)?.into_iter().filter(|day| day.day >= since).collect::<Vec<_>>();
    if days.is_empty() {
        return Ok(None);
    }
    let (key, owner, name, ended_at) = match record::read(record::fingerprint(fingerprint)?, text)?
    {
        Entry::Live(record) => {
            (record.id.clone(), record.account.clone(), record.name.clone(), None)
        }
        Entry::Ended(left) => {
            (left.key.clone(), left.account.clone(), left.name.clone(), Some(left.ended_at))
        }
    };
    if owner != *account || key.as_str().as_bytes() != id {
        return Err(Damage::Value("counted record"));
    }
    Ok(Some(KeyUsage { key, name, ended_at, days }))
}

/// What was counted, after the line that names a secret; the newest day is first there.
fn counted(text: &[u8]) -> Result<Vec<DayOfUse>, Damage> {
    let text = str::from_utf8(text).map_err(|_| Damage::Value("text"))?;
    let days = text.lines().skip(1);
    let days = days.map(|line| day(line).ok_or(Damage::Value("day of use")));
    let mut days: Vec<_> = days.collect::<Result<_, _>>()?;
    days.reverse();
    Ok(days)
}

fn day(line: &str) -> Option<DayOfUse> {
    let mut numbers = line.split(' ').map(record::number);
    let mut next = || numbers.next().flatten();
    let (day, requests, refusals) = (next()?, next()?, next()?);
    let day = Day::from_number(u32::try_from(day).ok()?);
    Some(DayOfUse { day, requests, refusals })
}
