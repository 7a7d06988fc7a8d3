//! Taking the key out of the headers, against a second description of the rule.
//!
//! The input is a byte of switches, then one header a line: its first byte says which, and in the rest the
//! byte 1 stands for the text of a key that is valid.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use regex::bytes::Regex;
use tower_api_key::testing::TestKeys;
use tower_api_key::{KeyFormat, RejectionKind};
use tower_api_key_fuzz::{Outcome, call, is_checked, is_visible, now};

static KEYS: LazyLock<(TestKeys, Vec<u8>)> = LazyLock::new(|| {
    let keys = TestKeys::new();
    let text = now(keys.key("ours")).into_bytes();
    (keys, text)
});

static BEARER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?is-u)^bearer(?: +(?P<token>.*)|(?P<odd>[^ 0-9A-Za-z!#$%&'*+\-.^_`|~].*)?)$")
        .expect("an expression")
});

fuzz_target!(|data: &[u8]| {
    let Some((&switches, rest)) = data.split_first() else { return };
    let (bearer, any) = (switches & 1 == 1, switches & 2 == 2);
    let (keys, valid) = &*KEYS;
    let mut request = Request::new(());
    for line in rest.split(|&byte| byte == b'\n') {
        let Some((&name, text)) = line.split_first() else { continue };
        let name = match name {
            b'k' => "api-key",
            b'a' => "authorization",
            b'x' => "x-api-key",
            _ => "cookie",
        };
        let text: Vec<u8> = text.iter().fold(Vec::new(), |mut text, &byte| {
            if byte == 1 {
                text.extend(valid)
            } else {
                text.push(byte)
            }
            text
        });
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            request.headers_mut().append(name, value);
        }
    }
    let all = |name| -> Vec<Vec<u8>> {
        request.headers().get_all(name).iter().map(|line| line.as_bytes().to_vec()).collect()
    };
    let (own, authorization) = (all("api-key"), all("authorization"));
    let others = (all("x-api-key"), all("cookie"));
    let expected = expected(&own, &authorization, bearer, any, valid);

    let mut layer = keys.layer();
    if bearer {
        layer = layer.with_bearer();
    }
    if any {
        layer = layer.with_key_format(KeyFormat::Any);
    }
    match (call(&layer, request), expected) {
        (Outcome::Admitted(identity, headers), None) => {
            assert_eq!(identity.account(), keys.account());
            let left = |name| -> Vec<Vec<u8>> {
                headers.get_all(name).iter().map(|line| line.as_bytes().to_vec()).collect()
            };
            assert_eq!((left("x-api-key"), left("cookie")), others, "nothing else is touched");
            let taken = bearer && authorization.iter().any(|line| BEARER.is_match(line));
            let kept = if taken { Vec::new() } else { authorization };
            assert_eq!(left("authorization"), kept);
        }
        (Outcome::Refused(kind), Some(expected)) => assert_eq!(kind, expected),
        (Outcome::Admitted(..), Some(expected)) => panic!("let in, though {expected}"),
        (Outcome::Refused(kind), None) => panic!("refused ({kind}), though valid"),
    }
});

/// Why a request is refused, if it is.
fn expected(
    own: &[Vec<u8>],
    authorization: &[Vec<u8>],
    bearer: bool,
    any: bool,
    valid: &[u8],
) -> Option<RejectionKind> {
    let token = |line: &Vec<u8>| {
        let found = BEARER.captures(line)?;
        let part = found.name("token").or(found.name("odd"));
        Some(part.map_or_else(Vec::new, |part| part.as_bytes().to_vec()))
    };
    let tokens: Vec<Vec<u8>> = authorization.iter().filter_map(token).collect();
    let candidates: Vec<Vec<u8>> = match (bearer, tokens.is_empty()) {
        // One that is ours makes every line of that header one too many.
        (true, false) if authorization.len() > 1 => return Some(RejectionKind::AmbiguousKey),
        (true, false) => own.iter().cloned().chain(tokens).collect(),
        _ => own.to_vec(),
    };
    let key = match &candidates[..] {
        [] => return Some(RejectionKind::MissingKey),
        [key] if key.is_empty() => return Some(RejectionKind::MissingKey),
        [key] => key,
        _ => return Some(RejectionKind::AmbiguousKey),
    };
    if !is_visible(key) {
        Some(RejectionKind::MalformedKey)
    } else if !any && !is_checked(key) {
        Some(RejectionKind::WrongChecksum)
    } else if key != valid {
        Some(RejectionKind::UnknownKey)
    } else {
        None
    }
}
