//! The one key in the headers. Knows no store, no transport and no body; never looks at the query.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::key::KeyText;
use crate::rejection::RejectionKind;

/// The header that carries the key.
pub static API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Where a key may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    /// `Authorization: Bearer …` too, where the service opted in.
    pub(crate) bearer: bool,
}

impl Places {
    /// Takes exactly one key, from exactly one place, out of the headers. Two lines are refused even
    /// when they are equal, because somebody in between may have looked at the other one.
    ///
    /// Whatever comes of it, no key is left in the headers.
    pub(crate) fn take_key(self, headers: &mut HeaderMap) -> Result<TakenKey, RejectionKind> {
        let in_header = take_only_line(headers, &API_KEY);
        let in_bearer =
            if self.bearer && headers.get_all(header::AUTHORIZATION).iter().any(is_bearer) {
                take_only_line(headers, &header::AUTHORIZATION)
            } else {
                Ok(None)
            };
        match (in_header?, in_bearer?) {
            (Some(_), Some(_)) => Err(RejectionKind::AmbiguousKey),
            (Some(line), None) => TakenKey::from_header(line),
            (None, Some(line)) => TakenKey::from_bearer(line),
            (None, None) => Err(RejectionKind::MissingKey),
        }
    }
}

/// A key that was taken out of the headers, as the line that it came in.
pub(crate) struct TakenKey {
    place: &'static HeaderName,
    line: HeaderValue,
    start: usize,
}

impl TakenKey {
    fn from_header(line: HeaderValue) -> Result<Self, RejectionKind> {
        Self { place: &API_KEY, line, start: 0 }.unless_empty()
    }

    fn from_bearer(line: HeaderValue) -> Result<Self, RejectionKind> {
        let start = line.len() - after_bearer(&line).map_or(0, <[u8]>::len);
        Self { place: &header::AUTHORIZATION, line, start }.unless_empty()
    }

    /// An empty line is a variable that was not set: to say that no key came is what helps.
    fn unless_empty(self) -> Result<Self, RejectionKind> {
        if self.start < self.line.len() { Ok(self) } else { Err(RejectionKind::MissingKey) }
    }

    pub(crate) fn text(&self) -> Result<KeyText<'_>, RejectionKind> {
        let text = &self.line.as_bytes()[self.start..];
        KeyText::parse(text).map_err(|_| RejectionKind::MalformedKey)
    }

    /// Puts the line back, marked as sensitive, for a service that keeps its keys.
    pub(crate) fn put_back(mut self, headers: &mut HeaderMap) {
        self.line.set_sensitive(true);
        headers.insert(self.place, self.line);
    }
}

/// Takes the only line of a header out. Of several, all go and none is the key.
fn take_only_line(
    headers: &mut HeaderMap,
    name: &HeaderName,
) -> Result<Option<HeaderValue>, RejectionKind> {
    let lines_before = headers.len();
    let line = headers.remove(name);
    if lines_before - headers.len() > 1 { Err(RejectionKind::AmbiguousKey) } else { Ok(line) }
}

fn is_bearer(line: &HeaderValue) -> bool {
    after_bearer(line).is_some()
}

/// What follows the scheme `Bearer` and its spaces. The scheme's case does not matter (RFC 9110
/// § 11.1); other schemes are not ours to judge.
fn after_bearer(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let scheme = value.iter().position(|byte| !is_name(byte)).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme);
    let token = rest.iter().position(|&byte| byte != b' ').unwrap_or(rest.len());
    scheme.eq_ignore_ascii_case(b"bearer").then(|| &rest[token..])
}

#[cfg(test)]
mod tests;
