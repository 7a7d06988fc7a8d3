use proptest::prelude::*;

use super::*;

const KEY: &str = "acme_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1Jvx2D";

fn path(text: &str) -> String {
    format!("{:?}", LoggedPath(text))
}

#[test]
fn a_path_is_quoted_and_escaped() {
    assert_eq!(path("/v2/bookings/7"), r#""/v2/bookings/7""#);
    assert_eq!(path("/"), r#""/""#);
    assert_eq!(path(""), r#""""#);
    assert_eq!(path("//a/"), r#""//a/""#);
    assert_eq!(path("/\"\\\n\u{202e}\u{7}é"), r#""/\"\\\n\u{202e}\u{7}é""#);
}

#[test]
fn of_a_long_path_the_beginning_is_said() {
    let long = "/é".repeat(5_000);
    assert_eq!(path(&long), format!("\"{}…\"", "/é".repeat(128)));
    let exact = "/é".repeat(128);
    assert_eq!(path(&exact), format!("\"{exact}\""));
}

#[test]
fn a_key_in_a_path_is_not_said_wherever_it_stands_and_the_path_is_cut() {
    assert_eq!(path(&format!("/v2/{KEY}/test")), r#""/v2/acme_live_(…)/test""#);
    assert_eq!(path(&format!("/{KEY}.json")), r#""/acme_live_(…).json""#);
    assert_eq!(path(&format!("/key={KEY};{KEY}")), r#""/key=acme_live_(…);acme_live_(…)""#);
    let foreign = "k5Qd1aMgDYJzCWmVdVyGUqBWzLMMrlNJbZ6aLfF1";
    assert_eq!(path(foreign), r#""(…)""#);
    let secret = &KEY["acme_live_".len()..];
    for before in 0..300 {
        let shown = path(&format!("/{}/{KEY}", "x/".repeat(before)));
        assert!(!shown.contains(&secret[..1]), "{shown}");
    }
}

#[test]
fn what_is_no_longer_than_an_id_is_said() {
    let id = "/v2/bookings/0123456789abcdef0123456789abcdef";
    assert_eq!(path(id), format!("{id:?}"));
    assert_eq!(path(&format!("{id}0")), r#""/v2/bookings/(…)""#);
    let title = "/a-title-of-many-words-that-are-all-short-enough-to-be-said";
    assert_eq!(path(title), format!("{title:?}"));
}

#[test]
fn a_method_of_any_length_is_short() {
    assert_eq!(LoggedMethod(&Method::GET).to_string(), "GET");
    let long = Method::from_bytes(&[b'M'; 5_000]).unwrap();
    assert_eq!(LoggedMethod(&long).to_string(), "M".repeat(20));
}

proptest! {
    #[test]
    fn any_path_is_one_short_line(text in "\\PC*|.*|(/[a-z\u{0}-\u{ff}]{0,9}){0,99}") {
        let shown = path(&text);
        prop_assert!(!shown.chars().any(char::is_control), "{shown}");
        prop_assert!(shown.len() < 10 * LONGEST_PATH + 20, "{}", shown.len());
    }
}
