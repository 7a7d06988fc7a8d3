//! The texts of a record. Each is parsed once, at the edge, under a length limit, and is a type of
//! its own from there on. No error repeats the text that it refuses.

use std::fmt;
use std::str::FromStr;

/// Why a text was refused. Says what the rule is; never repeats the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {rule}")]
pub struct InvalidText {
    what: &'static str,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Rule {
    #[error("must not be empty")]
    Empty,
    #[error("at most {0} characters")]
    TooLong(usize),
    #[error("{0}")]
    Characters(&'static str),
}

impl InvalidText {
    pub(crate) fn empty(what: &'static str) -> Self {
        Self { what, rule: Rule::Empty }
    }

    pub(crate) fn too_long(what: &'static str, most: usize) -> Self {
        Self { what, rule: Rule::TooLong(most) }
    }

    pub(crate) fn characters(what: &'static str, rule: &'static str) -> Self {
        Self { what, rule: Rule::Characters(rule) }
    }
}

/// Declares a text type: its name, what errors call it, the most characters, and a check of the
/// rest. The check sees a text that is neither empty nor too long.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $most:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> Result<Self, InvalidText> {
                let check: fn(&str) -> bool = $check;
                if text.is_empty() {
                    return Err(InvalidText::empty($what));
                }
                // Bytes first: 10 MB are refused without being counted. 4 bytes make the longest char.
                if text.len() > 4 * $most || text.chars().count() > $most {
                    return Err(InvalidText::too_long($what, $most));
                }
                if !check(text) {
                    return Err(InvalidText::characters($what, $rule));
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidText;

            fn try_from(text: String) -> Result<Self, InvalidText> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }
    };
}

text_type! {
    /// The owner of keys, by whatever the service calls it: 1 to 255 characters, no control or
    /// bidirectional-formatting ones, and something visible among them.
    AccountId, "account", 255, "needs something visible and no control characters", is_legible
}

text_type! {
    /// The public id of a record: 1 to 64 of `A-Z a-z 0-9 _ -`.
    KeyId, "key id", 64, "only letters, digits, '_' and '-'",
    |text| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

text_type! {
    /// What its owner calls a key: 1 to 100 characters (Unicode scalar values) with at least one
    /// visible among them; no control, line-breaking or bidirectional-formatting characters, which
    /// could forge log lines or make a name read as another. Any script and any emoji is welcome.
    KeyName, "name", 100, "needs something visible and no control characters",
    is_legible
}

text_type! {
    /// Who does something to keys, for the log: by whatever the service calls its users and programs. 1
    /// to 255 characters, legible as a [`KeyName`] is.
    Actor, "actor", 255, "needs something visible and no control characters", is_legible
}

text_type! {
    /// What a client calls one of its own requests, so that a repeat is known for one: 1 to 255 visible
    /// ASCII characters. No secret, but not to be guessed by another user of the account.
    IdempotencyKey, "idempotency key", 255, "only visible ASCII",
    |text| text.bytes().all(|b| b.is_ascii_graphic())
}

text_type! {
    /// What to recognise a key by, such as `acme_live_…vx2D`: up to 64 characters, legible as a
    /// [`KeyName`] is; or, by `Default`, nothing.
    #[derive(Default)]
    Hint, "hint", 64, "needs something visible and no control characters", is_legible
}

impl Hint {
    /// The beginning and the end of a key, which is visible ASCII.
    pub(crate) fn of(beginning: &str, end: &str) -> Self {
        Self(format!("{beginning}…{end}").into())
    }
}

text_type! {
    /// A scope, such as `bookings:read`: 1 to 64 characters of an OAuth scope token (RFC 6749
    /// § 3.3). Compared as a whole; no wildcards.
    Scope, "scope", 64, "only visible ASCII but '\"' and '\\'",
    |text| text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

text_type! {
    /// The environment that a key is for, such as `live` or `test`: 1 to 16 lower-case letters and
    /// digits. Part of the key's text.
    Environment, "environment", 16, "only lower-case letters and digits",
    |text| Environment::is_valid(text.as_bytes())
}

text_type! {
    /// A service's own beginning of its keys, such as `acme`: 2 to 16 lower-case letters and
    /// digits, a letter first. Register it with secret scanners.
    KeyPrefix, "key prefix", 16, "2 to 16 lower-case letters and digits, a letter first",
    |text| KeyPrefix::is_valid(text.as_bytes())
}

impl Environment {
    pub(crate) fn is_valid(text: &[u8]) -> bool {
        matches!(text.len(), 1..=16) && text.iter().copied().all(is_lower_alphanumeric)
    }
}

impl KeyPrefix {
    pub(crate) fn is_valid(text: &[u8]) -> bool {
        matches!(text.len(), 2..=16)
            && text[0].is_ascii_lowercase()
            && text.iter().copied().all(is_lower_alphanumeric)
    }
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_legible(text: &str) -> bool {
    !text.chars().any(is_unprintable) && !text.chars().all(is_invisible)
}

/// Control characters, the line and paragraph separators, and Unicode's `Bidi_Control`.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// White space, Unicode's `Default_Ignorable_Code_Point`, and the blanks that it leaves out. Some are
/// needed inside emoji, so they are refused only where there is nothing else.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A set of at most 64 scopes, in order, each once.
///
/// ```
/// use tower_api_key::Scopes;
///
/// let scopes: Scopes = "bookings:read webhooks:write".parse()?;
/// assert!(scopes.iter().any(|scope| scope.as_str() == "bookings:read"));
/// assert_eq!(scopes.to_string(), "bookings:read webhooks:write");
/// # Ok::<_, tower_api_key::InvalidText>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Box<[Scope]>);

impl Scopes {
    /// The most scopes a key may have.
    pub const MOST: usize = 64;

    /// Sorts the scopes and drops repeats.
    ///
    /// # Errors
    ///
    /// When more than [`MOST`](Self::MOST) remain.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, InvalidText> {
        let mut sorted = std::collections::BTreeSet::new();
        for scope in scopes {
            sorted.insert(scope);
            if sorted.len() > Self::MOST {
                return Err(InvalidText::characters("scopes", "at most 64 of them"));
            }
        }
        Ok(Self(sorted.into_iter().collect()))
    }

    /// Whether the very scope is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.binary_search(scope).is_ok()
    }

    /// The scopes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

/// Scopes separated by single spaces, as OAuth writes them; the empty text is the empty set.
impl FromStr for Scopes {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        // What 64 of the longest scopes take up, with the spaces between them.
        if text.len() > Self::MOST * 65 - 1 {
            return Err(InvalidText::too_long("scopes", Self::MOST * 65 - 1));
        }
        let scopes: Vec<Scope> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        Self::new(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, scope) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
