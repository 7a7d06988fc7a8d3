use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "a562857f72a13e7a84132b0f45587eed402c778b6b1d9b4f5177b3c0a3a2addd";

fn refusal(line: &str) -> String {
    let rows = ImportRows::from_json_lines(line);
    assert!(rows.rows.is_empty(), "{line}");
    assert_eq!(rows.refused.len(), 1, "{line}");
    rows.refused[0].to_string()
}

#[test]
fn every_field_is_read() {
    let line = r#"{"account":"a","name":"n","id":"key_1","environment":"live","scopes":["b","a"],
        "sources":["192.0.2.0/24","2001:db8::1"],"created_at":"2020-01-31T09:30:00Z",
        "expires_at":"2040-01-31T09:30:00.5+01:00","text":"a-text"}"#
        .replace('\n', "");
    let rows = ImportRows::from_json_lines(&line);
    assert!(rows.refused.is_empty(), "{:?}", rows.refused);
    let row = &rows.rows[0];
    assert_eq!(row.line, 1);
    assert_eq!((row.account.as_str(), row.name.as_str()), ("a", "n"));
    assert_eq!(row.id.as_ref().unwrap().as_str(), "key_1");
    assert_eq!(row.environment.as_ref().unwrap().as_str(), "live");
    assert_eq!(row.scopes.to_string(), "a b");
    assert_eq!(row.sources.to_string(), "192.0.2.0/24 2001:db8::1");
    let since = |time: Option<SystemTime>| time.unwrap().duration_since(SystemTime::UNIX_EPOCH);
    assert_eq!(since(row.created_at).unwrap().as_millis(), 1_580_463_000_000);
    assert_eq!(since(row.expires_at).unwrap().as_millis(), 2_211_611_400_500);
}

#[test]
fn digests_are_hex_or_base64() {
    let base64 = BASE64_STANDARD.encode(hex::decode(DIGEST).unwrap());
    let long = DIGEST.repeat(2);
    for (format, digest, more) in [
        ("sha256", DIGEST, ""),
        ("sha256", &DIGEST.to_uppercase(), ""),
        ("sha256", &base64, ""),
        ("sha512", &long, ""),
        ("sha512", &format!("sha512$${long}"), ""),
        ("sanctum", DIGEST, r#","selector":"17""#),
        ("prefixed-api-key", DIGEST, r#","selector":"BRTRKFsL""#),
    ] {
        let line = format!(
            r#"{{"account":"a","name":"n","format":"{format}","digest":"{digest}"{more}}}"#
        );
        let rows = ImportRows::from_json_lines(&line);
        assert!(rows.refused.is_empty(), "{line}: {:?}", rows.refused);
    }
}

#[test]
fn what_is_wrong_is_said_by_line_and_never_repeated() {
    let secret = "sUpErSeCrEt";
    for (line, reason) in [
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","tekst":"{secret}"}}"#),
            "no JSON object",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","text":"{secret}"}}"#),
            "no JSON object",
        ),
        (format!(r#"{{"account":"a","name":"n","text":["{secret}"]}}"#), "no JSON object"),
        (format!(r#"{{"account":"a","name":"n","text":"{secret}"}} x"#), "no JSON object"),
        (format!(r#"{{"account":"a","text":"{secret}"}}"#), "no JSON object"),
        (format!(r#""{secret}""#), "no JSON object"),
        (secret.to_owned(), "no JSON object"),
        (format!(r#"{{"account":"","name":"n","text":"{secret}"}}"#), "account: must not be empty"),
        (format!(r#"{{"account":"a","name":"n\u0000","text":"{secret}"}}"#), "name: needs"),
        (format!(r#"{{"account":"a","name":"n","text":"{secret} "}}"#), "API key: visible ASCII"),
        (r#"{"account":"a","name":"n"}"#.to_owned(), "either a text or"),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","digest":"{DIGEST}"}}"#),
            "either a text or",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","selector":"1"}}"#),
            "either a text or",
        ),
        (format!(r#"{{"account":"a","name":"n","digest":"{DIGEST}"}}"#), "either a text or"),
        (
            format!(r#"{{"account":"a","name":"n","format":"md5","digest":"{DIGEST}"}}"#),
            "no JSON object",
        ),
        (
            format!(r#"{{"account":"a","name":"n","format":"sha256","digest":"{secret}"}}"#),
            "32 bytes",
        ),
        (
            format!(r#"{{"account":"a","name":"n","format":"sha512","digest":"{DIGEST}"}}"#),
            "64 bytes",
        ),
        (
            format!(r#"{{"account":"a","name":"n","format":"sanctum","digest":"{DIGEST}"}}"#),
            "need a selector",
        ),
        (
            format!(
                r#"{{"account":"a","name":"n","format":"sha256","digest":"{DIGEST}","selector":"1"}}"#
            ),
            "no selector",
        ),
        (
            r#"{"account":"a","name":"n","format":"sha512","digest":"pbkdf2_sha256$1$a$b"}"#
                .to_owned(),
            "slow password hash",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","expires_at":"soon"}}"#),
            "expires_at must",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","created_at":"2020-01-31"}}"#),
            "created_at must",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","sources":["here"]}}"#),
            "source address",
        ),
        (
            format!(r#"{{"account":"a","name":"n","text":"{secret}","sources":[""]}}"#),
            "each of the sources",
        ),
        (format!(r#"{{"account":"a","name":"n","text":"{secret}","scopes":["a b"]}}"#), "scope"),
        (format!(r#"{{"account":"a","name":"n","text":"{secret}","id":"../x"}}"#), "key id"),
        (format!("{}{}", " ".repeat(LONGEST), secret), "too long"),
    ] {
        let said = refusal(&line);
        assert!(said.starts_with("line 1: ") && said.contains(reason), "{line}: {said}");
        assert!(!said.contains(secret) && !said.contains(&DIGEST[..8]), "{said}");
    }
}

#[test]
fn lines_are_numbered_as_an_editor_does() {
    let text = "\u{feff}{\"account\":\"a\",\"name\":\"n\",\"text\":\"x\"}\r\n\n  \nnone\n{\"account\":\"a\",\"name\":\"n\",\"text\":\"y\"}";
    let rows = ImportRows::from_json_lines(text);
    assert_eq!(rows.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(rows.refused.iter().map(|row| row.line).collect::<Vec<_>>(), [4]);
}

proptest! {
    #[test]
    fn nothing_panics(text in "\\PC{0,200}") {
        let _ = ImportRows::from_json_lines(&text);
    }

    /// Lines that nearly are rows.
    #[test]
    fn odd_values_do_not_panic(values in prop::collection::vec("[\\PC\"\\\\]{0,40}", 13)) {
        let names = ["account", "name", "id", "environment", "scopes", "sources", "created_at",
            "expires_at", "text", "format", "digest", "selector", "other"];
        let mut line = String::from("{");
        for (name, value) in names.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
            let comma = if line.len() > 1 { "," } else { "" };
            write!(line, "{comma}\"{name}\":{}", serde_json::Value::from(value)).unwrap();
        }
        line.push('}');
        let rows = ImportRows::from_json_lines(&line);
        prop_assert_eq!(rows.rows.len() + rows.refused.len(), 1);
    }
}
