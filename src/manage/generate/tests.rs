use std::collections::HashSet;

use rand::rngs::SysError;

use super::*;
use crate::key::KeyFormat;

fn new_key() -> ApiKey {
    let environment = "live".parse().unwrap();
    key(&"acme".parse().unwrap(), Some(&environment)).unwrap()
}

#[test]
fn a_new_key_is_native() {
    for environment in [None, Some("live".parse().unwrap())] {
        let key = key(&"acme".parse().unwrap(), environment.as_ref()).unwrap();
        assert!(KeyFormat::Checked.admits(key.text()));
    }
}

#[test]
fn a_new_key_begins_with_its_prefix_and_environment() {
    let text = new_key().reveal();
    let random = text.as_str().strip_prefix("acme_live_").unwrap();
    assert_eq!(random.len(), 43 + 6);
    let text = key(&"acme".parse().unwrap(), None).unwrap().reveal();
    let random = text.as_str().strip_prefix("acme_").unwrap();
    assert_eq!(random.len(), 43 + 6);
}

#[test]
fn no_two_keys_and_no_two_ids_are_alike() {
    let keys: HashSet<String> = (0..1000).map(|_| new_key().reveal().as_str().to_owned()).collect();
    assert_eq!(keys.len(), 1000);
    let ids: HashSet<String> = (0..1000).map(|_| id().unwrap().to_string()).collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn every_digit_is_met_at_every_place() {
    // Of 3,000 digits one is missing at a given place with probability (61/62)^3000 < 10^-21.
    let keys: Vec<String> =
        (0..3000).map(|_| base62(SysRng, RANDOM_DIGITS).unwrap().to_string()).collect();
    for place in 0..RANDOM_DIGITS {
        let met: HashSet<u8> = keys.iter().map(|key| key.as_bytes()[place]).collect();
        assert_eq!(met.len(), 62, "at {place}");
        assert!(met.iter().all(u8::is_ascii_alphanumeric), "at {place}");
    }
}

#[test]
fn an_id_says_what_it_is_and_has_22_random_digits() {
    let id = id().unwrap();
    let random = id.as_str().strip_prefix("key_").unwrap();
    assert_eq!(random.len(), 22);
    assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
}

/// Draws so many times, then fails once, and works again.
struct FailsAfter(u32);

impl FailsAfter {
    fn drawn<T>(&mut self, value: T) -> Result<T, SysError> {
        let left = self.0;
        self.0 = left.wrapping_sub(1);
        if left == 0 { Err(SysError::UNSUPPORTED) } else { Ok(value) }
    }
}

impl TryRng for FailsAfter {
    type Error = SysError;

    fn try_next_u32(&mut self) -> Result<u32, SysError> {
        self.drawn(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, SysError> {
        self.drawn(7)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), SysError> {
        bytes.fill(7);
        self.drawn(())
    }
}

impl TryCryptoRng for FailsAfter {}

#[test]
fn no_digits_are_made_when_the_generator_fails_for_any_of_them() {
    let enough = u32::try_from(RANDOM_DIGITS).unwrap() * 2;
    assert!(base62(FailsAfter(enough), RANDOM_DIGITS).is_ok());
    for before in 0..u32::try_from(RANDOM_DIGITS).unwrap() {
        let made = base62(FailsAfter(before), RANDOM_DIGITS);
        assert!(matches!(made, Err(ManageError::Randomness(_))), "after {before}");
    }
}

#[test]
fn in_whatever_width_a_sampler_draws_a_failure_is_noted() {
    let failing = || Noting { generator: FailsAfter(0), failure: None };
    let (mut by_four, mut by_eight, mut by_bytes) = (failing(), failing(), failing());
    assert_eq!(by_four.try_next_u32(), Ok(0));
    assert_eq!(by_eight.try_next_u64(), Ok(0));
    assert_eq!(by_bytes.try_fill_bytes(&mut [0]), Ok(()));
    for generator in [&mut by_four, &mut by_eight, &mut by_bytes] {
        assert_eq!(generator.failure, Some(SysError::UNSUPPORTED));
        // What works afterwards does not hide it.
        assert_eq!(generator.try_next_u32(), Ok(7));
        assert_eq!(generator.failure, Some(SysError::UNSUPPORTED));
    }
}
