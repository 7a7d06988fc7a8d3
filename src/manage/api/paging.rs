//! A list, a page at a time: what was asked for, and where the next page begins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use super::failure::Failure;
use crate::record::{KeyId, KeyRecord};

/// The most keys on a page, and how many there are unless asked otherwise.
const MOST: usize = 100;

/// The longest cursor that is looked at: of the latest time and the longest id.
const LONGEST_CURSOR: usize = 128;

/// A part of a list.
pub(super) struct Page {
    size: usize,
    after: Option<Place>,
}

/// Where a record stands in the list: oldest first, as a store lists them. A place stays one when its
/// record is deleted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    created_at: SystemTime,
    id: KeyId,
}

impl Page {
    pub(super) fn parse(query: Vec<(String, String)>) -> Result<Self, Failure> {
        let (mut size, mut after) = (None, None);
        for (name, value) in query {
            let is_repeated = match name.as_str() {
                "limit" => size.replace(parse_size(&value)?).is_some(),
                "after" => after.replace(parse_place(&value)?).is_some(),
                _ => return Err(Failure::param(&name, "There is no such parameter.")),
            };
            if is_repeated {
                return Err(Failure::param(&name, "The parameter is there more than once."));
            }
        }
        Ok(Self { size: size.unwrap_or(MOST), after })
    }

    /// The page's part of all records, and the query of the next page if there is one.
    pub(super) fn of<'a>(
        &self,
        all: &'a [Arc<KeyRecord>],
    ) -> (&'a [Arc<KeyRecord>], Option<String>) {
        let after = self.after.as_ref();
        let first =
            after.map_or(0, |after| all.partition_point(|record| Place::of(record) <= *after));
        let rest = &all[first..];
        let shown = &rest[..rest.len().min(self.size)];
        let next = shown.last().filter(|_| shown.len() < rest.len());
        (shown, next.map(|last| format!("limit={}&after={}", self.size, Place::of(last).cursor())))
    }
}

impl Place {
    fn of(record: &KeyRecord) -> Self {
        Self { created_at: record.created_at, id: record.id.clone() }
    }

    /// In a form that nobody takes for more than a mark.
    fn cursor(&self) -> String {
        let since = self.created_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        BASE64.encode(format!("{}.{}", since.as_millis(), self.id))
    }
}

fn parse_size(text: &str) -> Result<usize, Failure> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let size = text.parse().ok().filter(|size| digits && (1..=MOST).contains(size));
    size.ok_or_else(|| Failure::param("limit", format!("A number from 1 to {MOST}.")))
}

fn parse_place(text: &str) -> Result<Place, Failure> {
    let place = || {
        let text = Some(text).filter(|text| text.len() <= LONGEST_CURSOR)?;
        let decoded = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let (milliseconds, id) = decoded.split_once('.')?;
        let since = Duration::from_millis(milliseconds.parse().ok()?);
        let created_at = SystemTime::UNIX_EPOCH.checked_add(since)?;
        let place = Place { created_at, id: id.parse().ok()? };
        // Only what was given out: one place, one text.
        (place.cursor() == text).then_some(place)
    };
    place().ok_or_else(|| Failure::param("after", "What the link to the next page has."))
}

#[cfg(test)]
mod tests;
