use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

proptest! {
    /// Whatever a cursor is, it is refused or leads to the one place that it is of.
    #[test]
    fn any_text_is_a_place_or_refused(text in "\\PC{0,200}") {
        if let Ok(place) = parse_place(&text) {
            prop_assert_eq!(place.cursor(), text);
        }
    }

    #[test]
    fn a_place_is_found_again(milliseconds in 0_u64..253_402_300_800_000, id in "[A-Za-z0-9_-]{1,64}") {
        let place = Place { created_at: at(milliseconds), id: id.parse().unwrap() };
        let found = parse_place(&place.cursor());
        prop_assert_eq!(found.ok(), Some(place));
    }

    #[test]
    fn sizes_are_numbers_from_1_to_100(text in "\\PC{0,8}|[0-9+ ]{0,4}") {
        let expected = (1..=100_usize).find(|size| {
            let digits = text.trim_start_matches('0');
            !text.starts_with('+') && digits == size.to_string()
        });
        prop_assert_eq!(parse_size(&text).ok(), expected);
    }
}
