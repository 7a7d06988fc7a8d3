//! Every text that a person or a configuration gives: what is taken can be written and read back as the
//! same, and what is refused says why without repeating it at length.

#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tower_api_key::leaks::GitHubKeys;
use tower_api_key::{
    AccountId, Actor, Environment, IdempotencyKey, KeyId, KeyName, KeyPrefix, Scope, Sources,
    TrustedProxies,
};

#[derive(Arbitrary, Debug)]
enum Given<'a> {
    Word(&'a str),
    Sources(&'a str),
    Proxies(Vec<&'a str>),
    PublicKeys(&'a [u8]),
}

fuzz_target!(|given: Given<'_>| match given {
    Given::Word(text) => {
        survives::<AccountId>(text);
        survives::<Actor>(text);
        survives::<Environment>(text);
        survives::<IdempotencyKey>(text);
        survives::<KeyId>(text);
        survives::<KeyName>(text);
        survives::<KeyPrefix>(text);
        survives::<Scope>(text);
    }
    Given::Sources(text) => {
        if let Ok(sources) = text.parse::<Sources>() {
            let written = sources.to_string();
            assert_eq!(written.parse::<Sources>().as_ref(), Ok(&sources), "{written}");
            assert_eq!(sources.is_anywhere(), text.is_empty(), "only nothing means anywhere");
        }
    }
    Given::Proxies(networks) => {
        let taken = TrustedProxies::x_forwarded_proto(&networks);
        assert_eq!(taken.is_ok(), TrustedProxies::forwarded(&networks).is_ok());
        if taken.is_ok() {
            assert!(
                networks.iter().all(|network| !network.ends_with("/0")),
                "nobody trusts everybody"
            );
        }
    }
    Given::PublicKeys(json) => {
        let _ = GitHubKeys::from_json(json);
    }
});

fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Display + Debug,
{
    match text.parse::<T>() {
        Ok(taken) => {
            let written = taken.to_string();
            let read = written.parse::<T>().expect("what was written can be read");
            assert_eq!(read, taken);
            assert!(!written.chars().any(char::is_control), "{written:?}");
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.len() < 200 && !told.chars().any(char::is_control), "{told}");
        }
    }
}
