use std::fmt::{Debug, Display};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Unicode's `Bidi_Control`, whole.
const BIDI_CONTROLS: [char; 12] = [
    '\u{061c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}',
    '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Texts that could end a line, forge one or colour it.
const CONTROLS: [&str; 9] = [
    "\0",
    "a\0b",
    "a\nb",
    "a\r\nlevel=ERROR",
    "\u{1b}[31mred",
    "a\tb",
    "a\u{7f}b",
    "a\u{85}b",
    "a\u{9b}31mb",
];

fn error<T: FromStr<Err = InvalidText> + Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

#[track_caller]
fn assert_limit<T>(most: usize, character: &str)
where
    T: FromStr<Err = InvalidText> + Display + Debug,
{
    let longest = character.repeat(most);
    assert_eq!(longest.parse::<T>().unwrap().to_string(), longest);
    let error = error::<T>(&character.repeat(most + 1));
    let rule = format!(": at most {most} characters");
    assert!(error.ends_with(&rule), "{error}");
}

#[track_caller]
fn assert_empty_is_refused<T: FromStr<Err = InvalidText> + Debug>() {
    let error = error::<T>("");
    assert!(error.ends_with(": must not be empty"), "{error}");
}

/// 10 MB, of one byte and of four bytes a character.
#[track_caller]
fn assert_huge_is_refused_briefly<T: FromStr<Err = InvalidText> + Debug>() {
    for character in ["a", "😀"] {
        let error = error::<T>(&character.repeat(10_000_000 / character.len()));
        assert!(error.contains("at most"), "{error}");
        assert!(error.len() < 100, "{error}");
    }
}

fn assert_all_refused<T: FromStr<Err = InvalidText> + Debug>(texts: &[&str]) {
    for text in texts {
        assert!(text.parse::<T>().is_err(), "{text:?}");
    }
}

fn assert_all_pass<T: FromStr<Err = InvalidText> + Display + Debug>(texts: &[&str]) {
    for text in texts {
        assert_eq!(text.parse::<T>().map(|t| t.to_string()).as_deref(), Ok(*text));
    }
}

#[test]
fn each_type_has_its_limit_at_the_character() {
    assert_limit::<AccountId>(255, "a");
    assert_limit::<KeyId>(64, "a");
    assert_limit::<KeyName>(100, "a");
    assert_limit::<Scope>(64, "a");
    assert_limit::<Environment>(16, "a");
    assert_limit::<KeyPrefix>(16, "a");
}

#[test]
fn limits_count_characters_and_not_bytes() {
    // Emoji, Arabic, Hebrew, Chinese, Devanagari with its marks.
    for character in ["😀", "ع", "א", "名", "ि"] {
        assert_limit::<KeyName>(100, character);
        assert_limit::<AccountId>(255, character);
    }
}

#[test]
fn no_type_takes_an_empty_text() {
    assert_empty_is_refused::<AccountId>();
    assert_empty_is_refused::<KeyId>();
    assert_empty_is_refused::<KeyName>();
    assert_empty_is_refused::<Scope>();
    assert_empty_is_refused::<Environment>();
    assert_empty_is_refused::<KeyPrefix>();
}

#[test]
fn ten_megabytes_are_refused_without_being_repeated() {
    assert_huge_is_refused_briefly::<AccountId>();
    assert_huge_is_refused_briefly::<KeyId>();
    assert_huge_is_refused_briefly::<KeyName>();
    assert_huge_is_refused_briefly::<Scope>();
    assert_huge_is_refused_briefly::<Environment>();
    assert_huge_is_refused_briefly::<KeyPrefix>();
    assert_huge_is_refused_briefly::<Scopes>();
}

#[test]
fn no_error_repeats_the_text() {
    for text in ["hunter2\n", "hunter2 \\ \"hunter2\"", "HUNTER2-hunter2\0"] {
        for error in [
            text.parse::<AccountId>().err(),
            text.parse::<KeyId>().err(),
            text.parse::<KeyName>().err(),
            text.parse::<Scope>().err(),
            text.parse::<Scopes>().err(),
            text.parse::<Environment>().err(),
            text.parse::<KeyPrefix>().err(),
        ]
        .into_iter()
        .flatten()
        {
            let told = format!("{error} {error:?}").to_lowercase();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

#[test]
fn an_error_names_the_type_and_the_rule() {
    assert_eq!(
        error::<AccountId>("a\nb"),
        "account: needs something visible and no control characters"
    );
    assert_eq!(error::<KeyId>("a b"), "key id: only letters, digits, '_' and '-'");
    assert_eq!(error::<KeyName>(" "), "name: needs something visible and no control characters");
    assert_eq!(error::<KeyName>(""), "name: must not be empty");
    assert_eq!(error::<Environment>("LIVE"), "environment: only lower-case letters and digits");
}

#[test]
fn control_characters_are_refused_everywhere() {
    assert_all_refused::<AccountId>(&CONTROLS);
    assert_all_refused::<KeyId>(&CONTROLS);
    assert_all_refused::<KeyName>(&CONTROLS);
    assert_all_refused::<Scope>(&CONTROLS);
    assert_all_refused::<Scopes>(&CONTROLS);
    assert_all_refused::<Environment>(&CONTROLS);
    assert_all_refused::<KeyPrefix>(&CONTROLS);
}

#[test]
fn every_control_character_of_unicode_is_refused_in_names_and_accounts() {
    let controls = (0..=char::MAX as u32).filter_map(char::from_u32).filter(|c| c.is_control());
    let mut met = 0;
    for control in controls {
        let text = format!("a{control}b");
        assert!(text.parse::<KeyName>().is_err(), "{text:?}");
        assert!(text.parse::<AccountId>().is_err(), "{text:?}");
        met += 1;
    }
    assert_eq!(met, 65);
}

#[test]
fn bidirectional_controls_and_line_separators_are_refused_wherever_they_are() {
    for character in BIDI_CONTROLS.into_iter().chain(['\u{2028}', '\u{2029}']) {
        for text in [
            format!("{character}ab"),
            format!("a{character}b"),
            format!("ab{character}"),
            character.to_string(),
        ] {
            assert!(text.parse::<KeyName>().is_err(), "{text:?}");
            assert!(text.parse::<AccountId>().is_err(), "{text:?}");
        }
    }
}

#[test]
fn names_with_nothing_to_see_are_refused() {
    assert_all_refused::<KeyName>(&[
        " ",
        "     ",
        "\u{a0}",
        "\u{3000}",
        "\u{200b}",
        "\u{200d}\u{200d}",
        "\u{feff}",
        "\u{ad}",
        "\u{2060}",
        "\u{2800}",
        "\u{3164}",
        "\u{115f}\u{1160}",
        "\u{fe0f}",
        "\u{e0041}\u{e007f}",
        " \u{200b} \u{feff} ",
    ]);
}

#[test]
fn names_of_any_script_and_any_emoji_pass() {
    assert_all_pass::<KeyName>(&[
        "x",
        "Production CRM",
        " leading and trailing ",
        "O'Brien & Söhne \"GmbH\" <b>",
        "'; DROP TABLE keys; --",
        "مفتاح الإنتاج",
        "מפתח ייצור",
        "生产环境",
        "क्षेत्र",
        // Joined by U+200D, with U+FE0F.
        "👩‍👩‍👧‍👦",
        "❤️",
        // A flag made of tag characters.
        "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
    ]);
}

#[test]
fn accounts_are_whatever_the_service_calls_them() {
    assert_all_pass::<AccountId>(&[
        "1",
        "admin@example.com",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "urn:tenant/a b",
        "Käufer 名",
        "../../etc/passwd",
        "' OR 1=1 --",
    ]);
}

#[test]
fn key_ids_have_letters_digits_underscores_and_hyphens_only() {
    assert_all_pass::<KeyId>(&["a", "key_0aZ", "6f9619ff-8b86-d011", "-", "_", "0"]);
    assert_all_refused::<KeyId>(&[
        "a b",
        " a",
        "a'--",
        "1;DROP TABLE keys",
        "\" OR \"\"=\"",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "%2e%2e",
        "a%00",
        "a.b",
        "a:b",
        "a*",
        "a?b",
        "a#b",
        "{a}",
        "ключ",
        "\u{ff41}",
        "é",
    ]);
}

#[test]
fn every_ascii_character_of_a_key_id_is_judged() {
    for character in (0..=0x7f).map(char::from) {
        let fits = character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let passes = character.to_string().parse::<KeyId>().is_ok();
        assert_eq!(passes, fits, "{character:?}");
    }
}

#[test]
fn every_character_of_a_scope_is_a_character_of_an_oauth_scope_token() {
    for character in (0..=0xff).map(char::from) {
        // RFC 6749 § 3.3: %x21 / %x23-5B / %x5D-7E
        let fits = matches!(character, '\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e');
        let passes = character.to_string().parse::<Scope>().is_ok();
        assert_eq!(passes, fits, "{character:?}");
    }
}

#[test]
fn environments_have_lower_case_letters_and_digits_only() {
    assert_all_pass::<Environment>(&["live", "test", "1", "eu2", "0123456789abcdef"]);
    assert_all_refused::<Environment>(&["Live", "LIVE", "li_ve", "li-ve", "li ve", "é", "*"]);
}

#[test]
fn prefixes_have_two_lower_case_letters_or_digits_at_least_and_a_letter_first() {
    assert_all_pass::<KeyPrefix>(&["ac", "a1", "acme", "abcdefghijklmnop"]);
    assert_all_refused::<KeyPrefix>(&[
        "a", "1a", "1", "Acme", "aCme", "ac_me", "ac-me", "_a", "ac me", "ä1", "acmé",
    ]);
}

#[test]
fn debug_escapes_what_display_shows() {
    let name: KeyName = "say \"hi\"".parse().unwrap();
    assert_eq!(name.to_string(), "say \"hi\"");
    assert_eq!(format!("{name:?}"), "KeyName(\"say \\\"hi\\\"\")");
}

#[test]
fn a_string_is_taken_as_its_text_is() {
    assert_eq!(KeyName::try_from("CRM".to_owned()), Ok("CRM".parse().unwrap()));
    assert_eq!(KeyName::try_from(String::new()), Err(InvalidText::empty("name")));
}

#[test]
fn the_empty_text_is_the_empty_set_of_scopes() {
    let scopes: Scopes = "".parse().unwrap();
    assert_eq!(scopes, Scopes::default());
    assert_eq!(scopes.iter().count(), 0);
    assert_eq!(scopes.to_string(), "");
}

#[test]
fn scopes_are_sorted_and_each_is_kept_once() {
    let scopes: Scopes = "b a c b a a".parse().unwrap();
    assert_eq!(scopes.to_string(), "a b c");
    assert_eq!(scopes, "c b a".parse().unwrap());
}

#[test]
fn a_set_contains_whole_scopes_only() {
    let scopes: Scopes = "bookings:read webhooks:write".parse().unwrap();
    let contains = |text: &str| scopes.contains(&text.parse().unwrap());
    assert!(contains("bookings:read"));
    assert!(contains("webhooks:write"));
    for other in ["bookings", "bookings:", "bookings:rea", "read", "*", "Bookings:read"] {
        assert!(!contains(other), "{other}");
    }
}

#[test]
fn scopes_are_separated_by_exactly_one_space() {
    assert_all_refused::<Scopes>(&[" ", "a  b", " a", "a ", "a\tb", "a\nb", "a\u{a0}b"]);
}

#[test]
fn a_scope_that_is_not_one_spoils_the_set() {
    assert_all_refused::<Scopes>(&["a \"b\"", "a b\\c", "a ü", &format!("a {}", "b".repeat(65))]);
}

#[test]
fn a_set_has_at_most_64_different_scopes() {
    let numbered = |count: usize| -> Vec<String> { (0..count).map(|n| format!("s{n}")).collect() };
    let most = numbered(Scopes::MOST).join(" ");
    assert_eq!(most.parse::<Scopes>().unwrap().iter().count(), 64);
    let error = error::<Scopes>(&numbered(65).join(" "));
    assert_eq!(error, "scopes: at most 64 of them");
    // Repeats do not count.
    let repeated = format!("{most} {most}");
    assert_eq!(repeated.parse::<Scopes>(), most.parse::<Scopes>());
}

#[test]
fn a_set_is_made_of_an_endless_list_only_up_to_its_limit() {
    let endless = (0_u64..).map(|n| n.to_string().parse().unwrap());
    assert!(Scopes::new(endless).is_err());
}

proptest! {
    #[test]
    fn scopes_come_back_as_they_were_printed(texts in vec("[!#-\\[\\]-~]{1,64}", 0..20)) {
        let scopes: Scopes = texts.join(" ").parse().unwrap();
        let printed = scopes.to_string();
        prop_assert_eq!(&printed.parse::<Scopes>().unwrap(), &scopes);
        let mut sorted = texts.clone();
        sorted.sort();
        sorted.dedup();
        prop_assert_eq!(printed, sorted.join(" "));
        for text in &texts {
            prop_assert!(scopes.contains(&text.parse().unwrap()));
        }
    }

    #[test]
    fn any_text_is_taken_as_it_is_or_refused(text in "\\PC{0,120}|[ -~\u{200b}\u{202e}\n]{0,300}") {
        if let Ok(name) = text.parse::<KeyName>() {
            prop_assert_eq!(name.as_str(), &*text);
            prop_assert!((1..=100).contains(&text.chars().count()));
            prop_assert!(!text.contains(BIDI_CONTROLS));
            prop_assert!(!text.contains(char::is_control));
        }
        if let Ok(account) = text.parse::<AccountId>() {
            prop_assert_eq!(account.as_str(), &*text);
            prop_assert!((1..=255).contains(&text.chars().count()));
        }
        if let Ok(id) = text.parse::<KeyId>() {
            prop_assert_eq!(id.as_str(), &*text);
        }
        if let Ok(scopes) = text.parse::<Scopes>() {
            prop_assert!(scopes.iter().count() <= Scopes::MOST);
        }
    }
}
