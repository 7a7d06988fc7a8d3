use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const HEADER_ONLY: Places = Places { bearer: false };
const WITH_BEARER: Places = Places { bearer: true };

/// Header lines in their order; names may repeat.
fn lines(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn presented(places: Places, sent: &[(&'static str, &str)]) -> Result<String, RejectionKind> {
    taken(places, &mut lines(sent)).map(|key| String::from_utf8(key).unwrap())
}

fn taken(places: Places, headers: &mut HeaderMap) -> Result<Vec<u8>, RejectionKind> {
    let key = places.take_key(headers)?;
    Ok(key.text()?.as_bytes().to_vec())
}

#[track_caller]
fn assert_key(places: Places, sent: &[(&'static str, &str)], key: &str) {
    assert_eq!(presented(places, sent).as_deref(), Ok(key), "{sent:?}");
}

#[track_caller]
fn assert_refused(places: Places, sent: &[(&'static str, &str)], why: RejectionKind) {
    assert_eq!(presented(places, sent), Err(why), "{sent:?}");
}

#[test]
fn one_line_is_the_key() {
    for places in [HEADER_ONLY, WITH_BEARER] {
        assert_key(places, &[("api-key", "acme_live_abc")], "acme_live_abc");
    }
}

#[test]
fn the_name_of_the_header_is_of_any_case() {
    for name in ["API-Key", "api-key", "API-KEY", "aPi-kEy"] {
        assert_key(HEADER_ONLY, &[(name, "abc")], "abc");
    }
}

#[test]
fn no_line_is_a_missing_key() {
    for places in [HEADER_ONLY, WITH_BEARER] {
        assert_refused(places, &[], RejectionKind::MissingKey);
        assert_refused(places, &[("accept", "*/*")], RejectionKind::MissingKey);
    }
}

#[test]
fn an_empty_line_is_a_missing_key() {
    for places in [HEADER_ONLY, WITH_BEARER] {
        assert_refused(places, &[("api-key", "")], RejectionKind::MissingKey);
    }
}

#[test]
fn spaces_are_not_trimmed() {
    for value in [" ", "   ", " abc", "abc ", "a bc", "\tabc", "abc\t"] {
        assert_refused(HEADER_ONLY, &[("api-key", value)], RejectionKind::MalformedKey);
    }
}

#[test]
fn two_equal_lines_are_refused() {
    for places in [HEADER_ONLY, WITH_BEARER] {
        let sent = [("api-key", "abc"), ("api-key", "abc")];
        assert_refused(places, &sent, RejectionKind::AmbiguousKey);
    }
}

#[test]
fn two_different_lines_are_refused() {
    let sent = [("api-key", "abc"), ("api-key", "def")];
    assert_refused(HEADER_ONLY, &sent, RejectionKind::AmbiguousKey);
    let sent = [("api-key", "abc"), ("accept", "*/*"), ("API-Key", "def")];
    assert_refused(HEADER_ONLY, &sent, RejectionKind::AmbiguousKey);
}

#[test]
fn a_second_line_is_refused_even_when_one_of_the_two_is_empty() {
    for sent in [
        [("api-key", ""), ("api-key", "abc")],
        [("api-key", "abc"), ("api-key", "")],
        [("api-key", ""), ("api-key", "")],
    ] {
        assert_refused(HEADER_ONLY, &sent, RejectionKind::AmbiguousKey);
    }
}

#[test]
fn a_list_of_two_keys_is_not_a_key() {
    let sent = [("api-key", "abc, def")];
    assert_refused(HEADER_ONLY, &sent, RejectionKind::MalformedKey);
}

#[test]
fn a_list_without_spaces_is_not_split() {
    assert_key(HEADER_ONLY, &[("api-key", "abc,def")], "abc,def");
}

#[test]
fn quotes_are_part_of_the_key() {
    for value in ["\"abc\"", "'abc'", "\"abc", "`abc`"] {
        assert_key(HEADER_ONLY, &[("api-key", value)], value);
    }
}

#[test]
fn what_is_not_visible_ascii_is_malformed() {
    for value in ["schlüssel", "ключ", "🔑", "abc\u{a0}", "\u{feff}abc"] {
        assert_refused(HEADER_ONLY, &[("api-key", value)], RejectionKind::MalformedKey);
    }
}

#[test]
fn a_key_has_at_most_256_characters() {
    let longest = "x".repeat(256);
    assert_key(HEADER_ONLY, &[("api-key", &longest)], &longest);
    for length in [257, 300 * 1024] {
        let sent = [("api-key", &*"x".repeat(length))];
        assert_refused(HEADER_ONLY, &sent, RejectionKind::MalformedKey);
    }
}

#[test]
fn names_that_resemble_the_header_are_not_looked_at() {
    for name in ["x-api-key", "api_key", "apikey", "api-keys", "api-key-2", "key"] {
        for places in [HEADER_ONLY, WITH_BEARER] {
            assert_refused(places, &[(name, "abc")], RejectionKind::MissingKey);
            assert_key(places, &[(name, "abc"), ("api-key", "def")], "def");
        }
    }
}

#[test]
fn bearer_is_ignored_unless_opted_in() {
    let sent = [("authorization", "Bearer abc")];
    assert_refused(HEADER_ONLY, &sent, RejectionKind::MissingKey);
    let sent = [("authorization", "Bearer abc"), ("api-key", "def")];
    assert_key(HEADER_ONLY, &sent, "def");
    let sent =
        [("authorization", "Bearer abc"), ("authorization", "Bearer abc"), ("api-key", "def")];
    assert_key(HEADER_ONLY, &sent, "def");
}

#[test]
fn bearer_is_taken_where_opted_in_whatever_its_case_and_however_many_spaces() {
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        for spaces in [" ", "  ", "       "] {
            let value = format!("{scheme}{spaces}abc");
            assert_key(WITH_BEARER, &[("authorization", &value)], "abc");
        }
    }
}

#[test]
fn bearer_and_the_header_at_once_are_refused_even_when_equal() {
    for value in ["abc", "def", ""] {
        let sent = [("authorization", "Bearer abc"), ("api-key", value)];
        assert_refused(WITH_BEARER, &sent, RejectionKind::AmbiguousKey);
    }
}

#[test]
fn bearer_without_a_token_is_a_missing_key() {
    for value in ["Bearer", "bearer", "Bearer ", "Bearer    "] {
        assert_refused(WITH_BEARER, &[("authorization", value)], RejectionKind::MissingKey);
    }
}

#[test]
fn bearer_without_a_token_beside_the_header_is_refused() {
    let sent = [("authorization", "Bearer"), ("api-key", "abc")];
    assert_refused(WITH_BEARER, &sent, RejectionKind::AmbiguousKey);
}

#[test]
fn a_token_is_taken_as_it_is() {
    assert_key(WITH_BEARER, &[("authorization", "Bearer \"abc\"")], "\"abc\"");
    for value in ["Bearer abc ", "Bearer a bc", "Bearer abc, def", "Bearer \tabc"] {
        assert_refused(WITH_BEARER, &[("authorization", value)], RejectionKind::MalformedKey);
    }
}

#[test]
fn two_lines_of_authorization_are_refused_where_bearer_is_taken() {
    for second in ["Bearer abc", "Bearer def", "Basic abc", ""] {
        let sent = [("authorization", "Bearer abc"), ("authorization", second)];
        assert_refused(WITH_BEARER, &sent, RejectionKind::AmbiguousKey);
    }
}

#[test]
fn other_schemes_are_not_ours_to_judge() {
    for value in ["Basic dXNlcjpwYXNz", "Bearerabc", "Bear abc", "BearerX abc", "", "Digest"] {
        for places in [HEADER_ONLY, WITH_BEARER] {
            let sent = [("authorization", value), ("api-key", "abc")];
            assert_key(places, &sent, "abc");
            assert_refused(places, &[("authorization", value)], RejectionKind::MissingKey);
        }
    }
}

#[test]
fn taking_removes_the_key_and_nothing_else() {
    let others = [("x-api-key", "other"), ("authorization", "Basic abc")];
    let mut headers = lines(&[&[("api-key", "abc")], &others[..]].concat());
    assert!(WITH_BEARER.take_key(&mut headers).is_ok());
    assert_eq!(headers, lines(&others));
}

#[test]
fn taking_removes_a_bearer_token_only_where_it_could_be_a_key() {
    for value in ["Bearer abc", "bearer abc", "BEARER   abc", "Bearer\tabc", "Bearer"] {
        let sent = lines(&[("authorization", value)]);
        let mut headers = sent.clone();
        let _ = HEADER_ONLY.take_key(&mut headers);
        assert_eq!(headers, sent);
        let _ = WITH_BEARER.take_key(&mut headers);
        assert!(headers.is_empty(), "{value}");
    }
}

#[test]
fn of_a_refused_request_no_key_is_left_either() {
    for sent in [
        [("api-key", "abc"), ("api-key", "def")],
        [("api-key", "abc"), ("authorization", "Bearer abc")],
        [("authorization", "Basic abc"), ("authorization", "Bearer abc")],
        [("authorization", "Bearer abc"), ("authorization", "Basic abc")],
        [("api-key", "a b"), ("accept", "*/*")],
    ] {
        let mut headers = lines(&sent);
        let taken = WITH_BEARER.take_key(&mut headers);
        assert_eq!(taken.is_ok(), sent[0].1 == "a b", "{sent:?}");
        assert!(!headers.contains_key("api-key") && !headers.contains_key("authorization"));
    }
}

#[test]
fn a_key_that_is_put_back_is_as_it_was_and_sensitive() {
    for sent in [("api-key", "abc"), ("authorization", "bEarer  abc")] {
        let mut headers = lines(&[sent, ("accept", "*/*")]);
        let key = WITH_BEARER.take_key(&mut headers).ok().unwrap();
        key.put_back(&mut headers);
        assert_eq!(headers, lines(&[sent, ("accept", "*/*")]));
        for (name, value) in &headers {
            assert_eq!(value.is_sensitive(), name != "accept", "{name}");
        }
    }
}

#[test]
fn taking_does_not_invent_headers() {
    let mut headers = HeaderMap::new();
    assert!(WITH_BEARER.take_key(&mut headers).is_err());
    assert!(headers.is_empty());
}

/// The bytes that a header's value may have.
fn field_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => 0x21_u8..=0x7e,
        1 => Just(b' '),
        1 => Just(b'\t'),
        1 => 0x80_u8..,
    ];
    prop_oneof![vec(byte, 0..20), vec(0x21_u8..=0x7e, 0..300)]
}

fn one_line(name: &HeaderName, value: &[u8]) -> HeaderMap {
    HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(value).unwrap())])
}

fn expected(value: &[u8]) -> Result<&[u8], RejectionKind> {
    match value.len() {
        0 => Err(RejectionKind::MissingKey),
        1..=256 if value.iter().all(|byte| (0x21..=0x7e).contains(byte)) => Ok(value),
        _ => Err(RejectionKind::MalformedKey),
    }
}

proptest! {
    #[test]
    fn any_value_of_the_header_is_the_key_or_is_refused(value in field_value()) {
        for places in [HEADER_ONLY, WITH_BEARER] {
            let key = taken(places, &mut one_line(&API_KEY, &value));
            prop_assert_eq!(key, expected(&value).map(<[u8]>::to_vec));
        }
    }

    #[test]
    fn any_value_after_bearer_is_the_key_or_is_refused(token in field_value()) {
        let value = [b"Bearer ", &token[..]].concat();
        let mut headers = one_line(&header::AUTHORIZATION, &value);
        let start = token.iter().position(|&byte| byte != b' ').unwrap_or(token.len());
        let key = taken(WITH_BEARER, &mut headers);
        prop_assert_eq!(key, expected(&token[start..]).map(<[u8]>::to_vec));
    }

    #[test]
    fn any_lines_leave_no_key_behind(
        keys in vec(field_value(), 0..3),
        authorizations in vec((any::<bool>(), field_value()), 0..3),
    ) {
        let mut headers = HeaderMap::new();
        for key in &keys {
            headers.append(&API_KEY, HeaderValue::from_bytes(key).unwrap());
        }
        for (is_bearer, token) in &authorizations {
            let scheme: &[u8] = if *is_bearer { b"Bearer " } else { b"" };
            let value = HeaderValue::from_bytes(&[scheme, token].concat()).unwrap();
            headers.append(header::AUTHORIZATION, value);
        }
        if taken(WITH_BEARER, &mut headers).is_ok() {
            let others = authorizations.iter().filter(|(is_bearer, _)| !is_bearer);
            let left = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
            prop_assert!(left.eq(others.map(|(_, value)| &value[..])));
        }
        prop_assert!(!headers.contains_key(&API_KEY));
    }
}
