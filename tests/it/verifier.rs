//! Keys that are verified without a request: one, and many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tower_api_key::{
    ApiKeyLayer, Entry, Fingerprint, KeyFormat, KeyStore, KeyVerifier, Lookup, ManualClock,
    MemoryStore, NewKey, RejectionKind, StoreError,
};

use crate::support::{Log, account, digest, named, record, soon, text, time, with_key};

type Verdicts = Vec<Result<tower_api_key::Identity, tower_api_key::Rejection>>;

/// The account of each key that is valid, and why each other one is not.
fn said(verdicts: &Verdicts) -> Vec<Result<&str, RejectionKind>> {
    let said = verdicts.iter().map(|verdict| match verdict {
        Ok(identity) => Ok(identity.account().as_str()),
        Err(rejection) => Err(rejection.kind()),
    });
    said.collect()
}

#[tokio::test]
async fn each_text_is_judged_as_the_layer_judges_it() {
    let (store, clock) = (MemoryStore::new(), ManualClock::at(time(0)));
    let (manager, key) = with_key(store.clone()).await;
    let manager = manager.with_clock(clock.clone());
    let account = account("a");
    let make = async |new: NewKey| manager.create(&account, new).await.unwrap();
    let test = text(make(named("x").with_environment("test".parse().unwrap())).await);
    let reader = named("x").with_scopes("read".parse().unwrap());
    let reads = text(make(reader.clone()).await);
    let expires = text(make(reader.clone().with_expires_at(time(60))).await);
    let local = text(make(reader.with_sources("10.0.0.0/8".parse().unwrap())).await);
    let deleted = make(named("x")).await;
    manager.delete(&account, &deleted.record().id).await.unwrap();
    let deleted = text(deleted);
    let typo = format!("{}!", &key[..key.len() - 1]);
    clock.advance(Duration::from_mins(1));

    let verifier = KeyVerifier::new(store.clone())
        .with_environment("live".parse().unwrap())
        .with_required_scope("read".parse().unwrap())
        .with_clock(clock.clone());
    let endless = "x".repeat(10_000);
    let texts = [&reads, &test, &expires, &local, &key, &deleted, &typo, "", " ", "é", &endless];
    let expected = [
        Ok("a"),
        Err(RejectionKind::WrongEnvironment),
        Err(RejectionKind::ExpiredKey),
        Err(RejectionKind::WrongSource),
        Err(RejectionKind::MissingScope),
        Err(RejectionKind::DeletedKey),
        Err(RejectionKind::WrongChecksum),
        Err(RejectionKind::MissingKey),
        Err(RejectionKind::MalformedKey),
        Err(RejectionKind::MalformedKey),
        Err(RejectionKind::MalformedKey),
    ];
    let layer = ApiKeyLayer::new(store)
        .with_environment("live".parse().unwrap())
        .with_required_scope("read".parse().unwrap())
        .with_clock(clock);
    let (log, _guard) = Log::capture();
    for verifier in [verifier, layer.verifier()] {
        assert_eq!(said(&verifier.verify_all(&texts).await), expected);
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(said(&vec![verifier.verify(text).await]), [expected]);
        }
        let near = verifier.verify_from(&local, "10.1.2.3".parse().unwrap()).await;
        let far = verifier.verify_from(&local, "203.0.113.7".parse().unwrap()).await;
        assert_eq!(said(&vec![near, far]), [Ok("a"), Err(RejectionKind::WrongSource)]);
        assert!(!format!("{verifier:?}").contains("acme"));
    }
    assert!(!log.text().contains("acme_"), "{}", log.text());
}

#[tokio::test]
async fn a_caller_is_what_the_record_says() {
    let store = MemoryStore::new();
    let (manager, key) = with_key(store.clone()).await;
    let new = named("Reader")
        .with_environment("live".parse().unwrap())
        .with_scopes("read write".parse().unwrap())
        .with_expires_at(time(60));
    let manager = manager.with_clock(ManualClock::at(time(0)));
    let issued = manager.create(&account("a"), new).await.unwrap();
    let record = issued.record().clone();
    let verifier =
        KeyVerifier::new(store).with_any_environment().with_clock(ManualClock::at(time(0)));
    let caller = verifier.verify(&text(issued)).await.unwrap();
    assert_eq!(caller.account(), &record.account);
    assert_eq!(caller.key_id(), &record.id);
    assert_eq!(caller.key_name().as_str(), "Reader");
    assert_eq!(caller.fingerprint(), record.fingerprint());
    assert_eq!(caller.environment().unwrap().as_str(), "live");
    assert_eq!(caller.scopes().to_string(), "read write");
    assert!(caller.has_scope(&"read".parse().unwrap()));
    assert!(!caller.has_scope(&"admin".parse().unwrap()));
    assert_eq!(caller.expires_at(), Some(time(60)));

    let bare = verifier.verify(&key).await.unwrap();
    assert_eq!((bare.environment().is_none(), bare.expires_at()), (true, None));
    assert_eq!(bare.scopes().to_string(), "");
}

/// A store of slow answers that notes how many it gives at a time. What begins with `bad-` is unknown.
#[derive(Clone, Default)]
struct Slow {
    entries: Arc<std::collections::HashMap<Fingerprint, Entry>>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl KeyStore for Slow {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let (this, found) = (self.clone(), self.entries.get(&fingerprint).cloned());
        Lookup::waiting(async move {
            this.most.fetch_max(this.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // In an order of their own, so that theirs is not kept by chance.
            tokio::time::sleep(Duration::from_millis(u64::from(
                10 - fingerprint.as_bytes()[0] / 26,
            )))
            .await;
            this.now.fetch_sub(1, Ordering::SeqCst);
            Ok(found)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_texts_keep_their_order_and_are_looked_up_a_few_at_a_time() {
    let texts: Vec<String> = (0..10_000)
        .map(|number| format!("{}-key-{number}", if number % 7 == 0 { "bad" } else { "good" }))
        .collect();
    let entries = texts.iter().filter(|text| text.starts_with("good")).map(|text| {
        let mut record = record(&account(text), time(0));
        record.digest = digest(text);
        (record.fingerprint(), Entry::Live(Arc::new(record)))
    });
    let store = Slow { entries: Arc::new(entries.collect()), ..Slow::default() };
    let verifier = KeyVerifier::new(store.clone()).with_key_format(KeyFormat::Any);
    let verdicts = soon(verifier.verify_all(&texts)).await;
    let expected = texts.iter().map(|text| {
        if text.starts_with("good") { Ok(text.as_str()) } else { Err(RejectionKind::UnknownKey) }
    });
    assert_eq!(said(&verdicts), expected.collect::<Vec<_>>());
    assert_eq!(store.most.load(Ordering::SeqCst), 32);
}

/// Broken in the way that a key's first letter says.
struct Broken;

impl KeyStore for Broken {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let is = |text| digest(text).fingerprint() == fingerprint;
        match () {
            () if is("failing") => Lookup::ready(Err(StoreError::unavailable("test", "on fire"))),
            () if is("failing-later") => Lookup::waiting(async {
                tokio::task::yield_now().await;
                Err(StoreError::unavailable("test", "on fire"))
            }),
            () if is("panicking") => panic!("on fire"),
            () if is("panicking-later") => Lookup::waiting(async { panic!("on fire") }),
            () if is("silent") => Lookup::waiting(std::future::pending()),
            () => Lookup::ready(Ok(None)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_broken_is_no_unknown_key_and_stops_no_other() {
    let verifier = KeyVerifier::new(Broken).with_key_format(KeyFormat::Any);
    let texts = ["failing", "silent", "panicking", "unknown", "failing-later", "panicking-later"];
    let verdicts =
        soon(verifier.with_store_timeout(Duration::from_secs(1)).verify_all(&texts)).await;
    let expected = [
        RejectionKind::StoreFailed,
        RejectionKind::StoreTimedOut,
        RejectionKind::StorePanicked,
        RejectionKind::UnknownKey,
        RejectionKind::StoreFailed,
        RejectionKind::StorePanicked,
    ];
    assert_eq!(said(&verdicts), expected.map(Err));
}
