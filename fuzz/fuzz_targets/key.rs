//! The grammar of keys: what can be one, what its checksum says, what a scanner finds.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use tower_api_key::testing::TestKeys;
use tower_api_key::{Environment, KeyManager, KeyPrefix, KeyText, NewKey};
use tower_api_key_fuzz::{checksum, is_checked, is_visible, now};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a [u8],
    prefix: &'a str,
    environment: Option<&'a str>,
    before: &'a str,
    after: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    is_read_as_it_must(input.text);
    // The same with a good end, which is hard to guess.
    let whole = [input.text, &checksum(input.text)].concat();
    is_read_as_it_must(&whole);
    let mut typo = whole.clone();
    let at = input.before.len() % typo.len();
    typo[at] ^= 1;
    is_read_as_it_must(&typo);

    let Ok(prefix) = input.prefix.parse::<KeyPrefix>() else { return };
    let environment = input.environment.and_then(|text| text.parse::<Environment>().ok());
    let keys = TestKeys::new();
    let manager = KeyManager::new(keys.store().clone(), prefix.clone());
    let mut new = NewKey::new("ours".parse().expect("a name"));
    if let Some(environment) = environment.clone() {
        new = new.with_environment(environment);
    }
    let issued = now(manager.create(keys.account(), new)).expect("a key");
    let hint = issued.record().hint.to_string();
    let key = issued.reveal();
    is_read_as_it_must(key.as_str().as_bytes());
    let read = KeyText::parse(key.as_str().as_bytes()).expect("a key");
    assert!(read.has_checksum());

    let beginning = environment
        .map_or_else(|| format!("{prefix}_"), |environment| format!("{prefix}_{environment}_"));
    let shape = format!("^{beginning}[0-9A-Za-z]{{49}}$");
    assert!(expression(&shape).is_match(key.as_str()));
    let end = &key.as_str()[key.as_str().len() - 4..];
    assert_eq!(hint, format!("{beginning}…{end}"), "the hint is the beginning and the end");

    // A scanner finds it in any text that does not go on as a word.
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_apart = !input.before.ends_with(is_word)
        && !input.after.starts_with(is_word)
        // Marks that join what is before them.
        && input.before.is_ascii()
        && input.after.is_ascii();
    if is_apart {
        let text = format!("{}{}{}", input.before, key.as_str(), input.after);
        let pattern = expression(&prefix.scanner_pattern());
        assert!(
            pattern.find_iter(&text).any(|found| found.as_str() == key.as_str()),
            "it is found"
        );
    }
});

/// A compiled expression. Compiling takes longer than all the rest, and many inputs have one prefix.
fn expression(pattern: &str) -> Regex {
    static COMPILED: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if compiled.len() == 256 {
        compiled.clear();
    }
    let compile = || Regex::new(pattern).expect("an expression");
    compiled.entry(pattern.to_owned()).or_insert_with(compile).clone()
}

fn is_read_as_it_must(text: &[u8]) {
    match KeyText::parse(text) {
        Ok(read) => {
            assert!(is_visible(text));
            assert_eq!(read.has_checksum(), is_checked(text));
            assert_eq!(format!("{read:?}"), "KeyText(…)");
        }
        Err(error) => {
            assert!(!is_visible(text));
            let told = error.to_string();
            let fault = if text.is_empty() || text.len() > 256 { text.len() } else { 1 };
            let same = KeyText::parse(&vec![b' '; fault]).expect_err("as wrong as that");
            assert_eq!(told, same.to_string(), "the error says nothing of the text");
        }
    }
}
