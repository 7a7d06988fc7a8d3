//! The kit for the tests of others. What a test does with it is in its documentation.

use std::time::Duration;

use tower_api_key::RejectionKind;
use tower_api_key::testing::TestKeys;

use crate::support::named;

#[tokio::test]
async fn a_name_has_one_key_and_its_caller() {
    let keys = TestKeys::new();
    let (first, other) = (keys.key("First").await, keys.key("Other").await);
    assert_eq!(keys.key("First").await, first);
    assert_ne!(first, other);
    let caller = keys.identity("First").await;
    assert_eq!((caller.account(), caller.key_name().as_str()), (keys.account(), "First"));
    assert_eq!(keys.identity_of(&first).await.key_id(), caller.key_id());
    assert_eq!(keys.manager().list(keys.account()).await.unwrap().len(), 2);
    assert!(!format!("{keys:?}").contains(&first[5..]));
}

#[tokio::test]
async fn no_caller_comes_of_a_key_that_is_not_valid() {
    let keys = TestKeys::new();
    let caller = keys.identity("Deleted").await;
    let text = keys.key("Deleted").await;
    keys.manager().delete(keys.account(), caller.key_id()).await.unwrap();
    let refused = keys.layer().verifier().verify(&text).await.unwrap_err();
    assert_eq!(refused.kind(), RejectionKind::DeletedKey);
    assert!(tokio::spawn(async move { keys.identity("Deleted").await }).await.is_err());
}

#[tokio::test]
async fn time_is_the_tests_own() {
    let keys = TestKeys::new();
    let new = named("x").with_expires_at(keys.now() + Duration::from_hours(1));
    let key = keys.make("partner", new).await;
    let verifier = keys.layer().verifier();
    assert_eq!(verifier.verify(&key).await.unwrap().account().as_str(), "partner");
    keys.clock().advance(Duration::from_hours(1));
    assert_eq!(verifier.verify(&key).await.unwrap_err().kind(), RejectionKind::ExpiredKey);
}

#[tokio::test]
async fn a_key_of_an_environment_has_its_caller_too() {
    let keys = TestKeys::new();
    let new = named("x").with_environment("live".parse().unwrap());
    let key = keys.make("a", new).await;
    assert_eq!(keys.identity_of(&key).await.environment().unwrap().as_str(), "live");
}
