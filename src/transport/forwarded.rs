//! RFC 7239's `Forwarded`, as strictly as trust in it deserves.
//!
//! ```text
//! forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
//! forwarded-pair    = token "=" ( token / quoted-string )
//! ```
//!
//! Only a single element is taken: a comma outside of quotes means that more than one hop wrote the
//! header, and then the first element is the client's own word.

use std::net::{IpAddr, SocketAddr};

/// Whether the field is one well-formed element with exactly one `proto`, which is this one.
pub(super) fn says(scheme: &[u8], field: &[u8]) -> bool {
    only(b"proto", field).is_some_and(|proto| proto == scheme)
}

/// The address in the only `for` of the one element (RFC 7239 § 6), when it has one.
pub(super) fn client(field: &[u8]) -> Option<IpAddr> {
    address(&only(b"for", field)?)
}

/// An address as proxies write it: bare, in brackets, or with a port.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

/// The value of the only parameter of a name, unquoted; `None` when the field is not one well-formed
/// element with one such parameter.
fn only(wanted: &[u8], field: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = field;
    loop {
        if !matches!(rest.first(), None | Some(b';')) {
            let (name, value, after) = pair(rest)?;
            if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
                return None;
            }
            rest = after;
        }
        match rest.split_first() {
            None => return found,
            Some((b';', after)) => rest = after,
            Some(_) => return None,
        }
    }
}

/// `token "=" value`, and what follows.
fn pair(input: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let (name, rest) = token(input)?;
    let rest = rest.strip_prefix(b"=")?;
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let (value, rest) = quoted_text(quoted)?;
        Some((name, value, rest))
    } else {
        let (value, rest) = token(rest)?;
        Some((name, value.to_vec(), rest))
    }
}

/// The longest token at the start (RFC 9110 § 5.6.2), at least one character.
fn token(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = input.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(input.len());
    (end > 0).then(|| input.split_at(end))
}

/// The text of a quoted string (RFC 9110 § 5.6.4) whose opening quote was taken, and what follows
/// its closing quote.
fn quoted_text(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut rest = input;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((text, rest)),
            b'\\' => {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                text.push(Some(escaped).filter(|&byte| is_quotable(byte))?);
            }
            byte => text.push(Some(byte).filter(|&byte| is_quotable(byte))?),
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_quotable(byte: u8) -> bool {
    byte == b'\t' || byte == b' ' || byte.is_ascii_graphic() || byte >= 0x80
}

#[cfg(test)]
mod tests;
