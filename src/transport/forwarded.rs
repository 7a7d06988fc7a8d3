//! RFC 7239's `Forwarded`, as strictly as trust in it deserves.
//!
//! ```text
//! forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
//! forwarded-pair    = token "=" ( token / quoted-string )
//! ```
//!
//! Only a single element is taken: a comma outside of quotes means that more than one hop wrote the
//! header, and then the first element is the client's own word.

/// Whether the field is one well-formed element with exactly one `proto`, which is `https`.
pub(super) fn says_https(field: &[u8]) -> bool {
    proto(field).is_some_and(|proto| proto == b"https")
}

/// The value of the only `proto` parameter, unquoted; `None` when the field is not one well-formed
/// element with one `proto`.
fn proto(field: &[u8]) -> Option<Vec<u8>> {
    let mut proto = None;
    let mut rest = field;
    loop {
        if !matches!(rest.first(), None | Some(b';')) {
            let (name, value, after) = pair(rest)?;
            if name.eq_ignore_ascii_case(b"proto") && proto.replace(value).is_some() {
                return None;
            }
            rest = after;
        }
        match rest.split_first() {
            None => return proto,
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
