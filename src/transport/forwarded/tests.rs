use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn accepted(field: &str) -> bool {
    says(b"https", field.as_bytes())
}

#[test]
fn one_element_that_says_https_is_https() {
    for field in [
        "proto=https",
        "Proto=https",
        "PROTO=https",
        "pRoTo=https",
        "proto=\"https\"",
        "for=192.0.2.60;proto=https;by=203.0.113.43",
        "proto=https;for=192.0.2.60",
        "for=192.0.2.60;proto=https",
        "for=\"[2001:db8:cafe::17]:4711\";proto=https",
        "for=_mdn;proto=https",
        "for=\"_gazonk\";proto=https",
        "for=unknown;proto=https",
        "host=example.com;proto=https",
        "host=\"example.com:8443\";proto=https",
        // A comma or a semicolon inside quotes is a part of the value.
        "for=\"_x, y\";proto=https",
        "host=\"a;proto=http\";proto=https",
        "host=\"a,proto=http\";proto=https",
        // Escapes.
        "host=\"a\\\"b\";proto=https",
        "host=\"a\\\\\";proto=https",
        "host=\"a\\\"\\;proto=http\";proto=https",
        "proto=\"\\h\\t\\t\\p\\s\"",
        // What a quoted string may hold.
        "host=\"\";proto=https",
        "host=\"a\tb c\";proto=https",
        "host=\"\u{e9}\";proto=https",
        // Every character of a token.
        "!#$%&'*+-.^_`|~09AZaz=!#$%&'*+-.^_`|~09AZaz;proto=https",
        // Names that only resemble.
        "xproto=http;proto=https",
        "proto2=http;proto=https",
        // A parameter that is repeated but is not `proto` is not ours to judge.
        "for=a;for=b;proto=https",
        // Pairs may be left out (RFC 7239 § 4).
        "proto=https;",
        ";proto=https",
        ";;proto=https;;",
        "for=a;;proto=https",
    ] {
        assert!(accepted(field), "{field}");
    }
}

#[test]
fn one_element_that_says_anything_else_is_not_https() {
    for field in [
        "",
        ";",
        ";;;",
        "proto=http",
        "proto=HTTPS",
        "proto=Https",
        "proto=httpsx",
        "proto=xhttps",
        "proto=wss",
        "proto=\"\"",
        "proto=\"HTTPS\"",
        "proto=\" https\"",
        "proto=\"https \"",
        "proto=\"https;\"",
        "proto=\"https,http\"",
        "for=192.0.2.60",
        "for=https",
        "https",
        "https=proto",
        "xproto=https",
        "proto2=https",
        "host=\"a;proto=https\"",
        "host=\"proto=https\"",
        "host=\"a\\\";proto=https\"",
        "for=proto;by=https",
    ] {
        assert!(!accepted(field), "{field}");
    }
}

#[test]
fn a_repeated_proto_is_not_https_even_when_both_say_so() {
    for field in [
        "proto=https;proto=https",
        "proto=https;proto=http",
        "proto=http;proto=https",
        "proto=https;for=a;PROTO=https",
        "proto=https;proto=\"https\"",
        "proto=https;proto=\"\"",
    ] {
        assert!(!accepted(field), "{field}");
    }
}

#[test]
fn more_than_one_element_is_not_https_whatever_they_say() {
    for field in [
        "proto=https,proto=https",
        "proto=https, proto=https",
        "proto=https, for=a;proto=http",
        "for=a;proto=http, proto=https",
        "for=a, proto=https",
        "proto=https, for=a",
        "proto=https,",
        ",proto=https",
        ", proto=https",
        "proto=https;,",
        "for=\"a\",proto=https",
        "for=\"a\\\"\",proto=https",
        ",",
    ] {
        assert!(!accepted(field), "{field}");
    }
}

#[test]
fn what_is_not_of_the_grammar_is_not_https() {
    for field in [
        // Spaces are nowhere but in quotes.
        " proto=https",
        "proto=https ",
        "proto =https",
        "proto= https",
        "proto = https",
        "proto=https ;for=a",
        "proto=https; for=a",
        "for=a; proto=https",
        "for=a ;proto=https",
        "proto=https; ",
        "for=a\t;proto=https",
        "proto=https\t",
        // Pairs without a name, a value or a sign.
        "proto",
        "proto=",
        "proto=;",
        "=https",
        "=;proto=https",
        "for;proto=https",
        "for=;proto=https",
        "proto=https;for",
        "proto=https;for=",
        "proto==https",
        "proto:https",
        "proto=https=",
        // Quotes that do not end, or end too early, or are of the wrong kind.
        "\"",
        "proto=\"https",
        "proto=https\"",
        "proto=\"https\"x",
        "proto=\"https\"\"\"",
        "proto=\"ht\"tps",
        "for=\"a;proto=https",
        "for=\"a\\\";proto=https",
        "for=\"a\\",
        "for=a\";proto=https",
        "proto='https'",
        "\"proto\"=https",
        "proto=https;for=\"",
        // Outside of a token: an address with its port or brackets must be quoted.
        "for=192.0.2.60:4711;proto=https",
        "for=[2001:db8::17];proto=https",
        "host=a/b;proto=https",
        "f(o)r=a;proto=https",
        "for=a@b;proto=https",
        "h\u{f6}st=a;proto=https",
        "host=\u{e9};proto=https",
        "proto=https\0",
        "host=\"a\0b\";proto=https",
        "host=\"a\\\0b\";proto=https",
        "host=\"a\u{7f}b\";proto=https",
        "host=\"a\nb\";proto=https",
        "proto=https\r\n",
    ] {
        assert!(!accepted(field), "{field:?}");
    }
}

#[test]
fn every_byte_outside_of_a_token_spoils_it() {
    for byte in 0..=u8::MAX {
        let field = [b"for=a", &[byte][..], b"b;proto=https"].concat();
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        // A semicolon ends the pair, and what follows has no value.
        assert_eq!(says(b"https", &field), is_token, "{byte:#x}");
    }
}

/// One pair as a generator made it.
#[derive(Clone, Debug)]
struct Pair {
    name: String,
    value: Vec<u8>,
    /// For a quoted string: which of its bytes are escaped, though they need not be.
    quoted: Option<u64>,
}

impl Pair {
    fn is_proto(&self) -> bool {
        self.name.eq_ignore_ascii_case("proto")
    }

    /// Its bytes, and which of them are inside quotes.
    fn write(&self, field: &mut Vec<(u8, bool)>) {
        field.extend(self.name.bytes().chain([b'=']).map(|byte| (byte, false)));
        let Some(escaped) = self.quoted else {
            field.extend(self.value.iter().map(|&byte| (byte, false)));
            return;
        };
        field.push((b'"', false));
        for (at, &byte) in self.value.iter().enumerate() {
            if b"\"\\".contains(&byte) || escaped >> (at % 64) & 1 == 1 {
                field.push((b'\\', true));
            }
            field.push((byte, true));
        }
        // A comma that is put before the closing quote is inside.
        field.push((b'"', true));
    }
}

fn token_text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,8}"
}

fn pair_of(
    name: impl Strategy<Value = String>,
    value: &'static str,
) -> impl Strategy<Value = Pair> {
    (name, proptest::option::of(any::<u64>())).prop_map(move |(name, quoted)| Pair {
        name,
        value: value.into(),
        quoted,
    })
}

fn proto_name() -> impl Strategy<Value = String> {
    "[pP][rR][oO][tT][oO]"
}

fn other_pair() -> impl Strategy<Value = Pair> {
    let name = token_text().prop_filter("not proto", |name| !name.eq_ignore_ascii_case("proto"));
    let quotable = prop_oneof![
        4 => 0x20_u8..=0x7e,
        1 => Just(b'\t'),
        1 => 0x80_u8..,
        3 => select(b"\"\\,;=".as_slice()),
    ];
    let value = prop_oneof![
        token_text().prop_map(|text| (text.into_bytes(), None)),
        (vec(quotable, 0..12), any::<u64>()).prop_map(|(text, escaped)| (text, Some(escaped))),
        any::<u64>().prop_map(|escaped| (b"a;proto=https".to_vec(), Some(escaped))),
    ];
    (name, value).prop_map(|(name, (value, quoted))| Pair { name, value, quoted })
}

/// Pairs of one element, `None` where one was left out; often with one `proto`, sometimes with none
/// or two.
fn element() -> impl Strategy<Value = Vec<Option<Pair>>> {
    let pair = prop_oneof![
        4 => other_pair().prop_map(Some),
        2 => pair_of(proto_name(), "https").prop_map(Some),
        1 => pair_of(proto_name(), "http").prop_map(Some),
        1 => pair_of(proto_name(), "HTTPS").prop_map(Some),
        1 => Just(None),
    ];
    vec(pair, 0..6)
}

fn written(element: &[Option<Pair>]) -> Vec<(u8, bool)> {
    let mut field = Vec::new();
    for (at, pair) in element.iter().enumerate() {
        if at > 0 {
            field.push((b';', false));
        }
        if let Some(pair) = pair {
            pair.write(&mut field);
        }
    }
    field
}

fn bytes(field: &[(u8, bool)]) -> Vec<u8> {
    field.iter().map(|&(byte, _)| byte).collect()
}

/// What fields are made of, in pieces that fit together by chance often enough.
const PIECES: [&str; 12] =
    ["proto", "PROTO", "=", "https", ";", ",", "\"", "\\", " ", "a=b", "http", "proto=https"];

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(field in vec(any::<u8>(), 0..80)) {
        // Random bytes are never that lucky.
        prop_assert!(!says(b"https", &field));
    }

    #[test]
    fn what_is_pieced_together_is_https_only_without_a_comma_outside_of_quotes(
        pieces in vec(select(PIECES.as_slice()), 0..8),
    ) {
        let field = pieces.concat();
        if accepted(&field) {
            let mut quoted = false;
            let mut characters = field.chars();
            while let Some(character) = characters.next() {
                match character {
                    '"' => quoted = !quoted,
                    '\\' if quoted => drop(characters.next()),
                    ',' => prop_assert!(quoted, "{}", field),
                    _ => {}
                }
            }
            prop_assert!(!quoted, "{}", field);
            prop_assert!(field.to_ascii_lowercase().contains("proto="), "{}", field);
        }
    }

    #[test]
    fn a_well_formed_element_is_judged_by_its_only_proto(element in element()) {
        let mut protos = element.iter().flatten().filter(|pair| pair.is_proto());
        let expected = match (protos.next(), protos.next()) {
            (Some(only), None) => only.value == b"https",
            _ => false,
        };
        let field = bytes(&written(&element));
        prop_assert_eq!(says(b"https", &field), expected, "{}", String::from_utf8_lossy(&field));
    }

    #[test]
    fn a_comma_outside_of_quotes_spoils_every_element(element in element(), at: Index) {
        let mut field = written(&element);
        // The comma comes before the byte at each place, or at the end.
        let places: Vec<usize> = (0..=field.len())
            .filter(|&at| field.get(at).is_none_or(|&(_, inside)| !inside))
            .collect();
        field.insert(places[at.index(places.len())], (b',', false));
        let field = bytes(&field);
        prop_assert!(!says(b"https", &field), "{}", String::from_utf8_lossy(&field));
    }

    #[test]
    fn two_elements_are_never_https(first in element(), second in element(), space: bool) {
        let comma: &[u8] = if space { b", " } else { b"," };
        let field = [&bytes(&written(&first)), comma, &bytes(&written(&second))].concat();
        prop_assert!(!says(b"https", &field), "{}", String::from_utf8_lossy(&field));
    }
}
