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
    /// Exactly one key, from exactly one place: two lines are refused even when they are equal,
    /// because somebody in between may have looked at the other one.
    pub(crate) fn presented_key(self, headers: &HeaderMap) -> Result<KeyText<'_>, RejectionKind> {
        let in_header = only_line(headers, &API_KEY)?.map(HeaderValue::as_bytes);
        let in_bearer = if self.bearer { bearer_token(headers)? } else { None };
        let key = match (in_header, in_bearer) {
            (Some(_), Some(_)) => return Err(RejectionKind::AmbiguousKey),
            // An empty line is a variable that was not set: say that no key came, which helps.
            (Some(b"") | None, None) | (None, Some(b"")) => return Err(RejectionKind::MissingKey),
            (Some(key), None) | (None, Some(key)) => key,
        };
        KeyText::parse(key).map_err(|_| RejectionKind::MalformedKey)
    }

    /// Takes the key out of the headers, or marks it as sensitive where the service keeps it.
    pub(crate) fn conceal(self, headers: &mut HeaderMap, keep: bool) {
        if keep {
            mark_sensitive(headers, &API_KEY);
        } else {
            headers.remove(&API_KEY);
        }
        if self.bearer && headers.get_all(header::AUTHORIZATION).iter().any(is_bearer) {
            if keep {
                mark_sensitive(headers, &header::AUTHORIZATION);
            } else {
                headers.remove(header::AUTHORIZATION);
            }
        }
    }
}

fn mark_sensitive(headers: &mut HeaderMap, name: &HeaderName) {
    if let header::Entry::Occupied(mut lines) = headers.entry(name) {
        lines.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

fn is_bearer(value: &HeaderValue) -> bool {
    after_bearer(value).is_some()
}

/// The only line of a header; more than one is refused.
fn only_line<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, RejectionKind> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next();
    match lines.next() {
        None => Ok(line),
        Some(_) => Err(RejectionKind::AmbiguousKey),
    }
}

fn bearer_token(headers: &HeaderMap) -> Result<Option<&[u8]>, RejectionKind> {
    Ok(only_line(headers, &header::AUTHORIZATION)?.and_then(after_bearer))
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
