use std::collections::HashSet;

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
    let keys: Vec<String> = (0..3000).map(|_| base62(RANDOM_DIGITS).unwrap().to_string()).collect();
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

#[test]
fn a_failure_of_the_generator_is_kept() {
    let mut generator = SystemGenerator { failure: None };
    assert_eq!(generator.noting(Ok(7_u32)), 7);
    assert!(generator.failure.is_none());
    assert_eq!(generator.noting::<u64>(Err(SysError::UNSUPPORTED)), 0);
    // What works afterwards does not hide it.
    assert_eq!(generator.noting(Ok(7_u32)), 7);
    assert_eq!(generator.failure, Some(SysError::UNSUPPORTED));
}
