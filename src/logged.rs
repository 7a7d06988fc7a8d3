//! A call's method and path as the log may have them: short, on one line, and without a key that somebody
//! wrote into the path by mistake. Never the query.
//!
//! Keys of other systems have no form to know them by, so every long word is left out: more than 32 letters and
//! digits in a row, as many as a UUID has without its hyphens.

use std::fmt;

use http::{Method, Uri};

/// The most characters of a path that are logged.
const LONGEST_PATH: usize = 256;

/// The most letters and digits in a row that are logged.
const LONGEST_WORD: usize = 32;

/// A method, of which a client may send any. The longest that is registered has 17 letters.
pub(crate) struct LoggedMethod<'a>(pub(crate) &'a Method);

impl fmt::Display for LoggedMethod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.20}", self.0.as_str())
    }
}

/// A path, quoted and escaped.
pub(crate) struct LoggedPath<'a>(&'a str);

impl<'a> LoggedPath<'a> {
    pub(crate) fn of(uri: &'a Uri) -> Self {
        Self(uri.path())
    }
}

impl fmt::Debug for LoggedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0;
        let end = whole.char_indices().nth(LONGEST_PATH).map_or(whole.len(), |(at, _)| at);
        f.write_str("\"")?;
        let mut at = 0;
        // Words are judged whole, before they are cut: half of a key is a secret, too.
        for part in whole.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
            let word = part.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric()).len();
            let hidden = if word > LONGEST_WORD { word } else { 0 };
            if at < end && hidden > 0 {
                f.write_str("(…)")?;
            }
            let shown = at + hidden..end.min(at + part.len());
            write!(f, "{}", whole.get(shown).unwrap_or_default().escape_debug())?;
            at += part.len();
        }
        f.write_str(if end < whole.len() { "…\"" } else { "\"" })
    }
}

#[cfg(test)]
mod tests;
