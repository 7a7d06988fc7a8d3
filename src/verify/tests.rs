use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use http::{HeaderValue, Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::digest::Pepper;
use crate::digest::hashing::tests::MADE;
use crate::{
    ApiKeyLayer, Connection, KeyId, KeyManager, ManualClock, MemoryStore, NewKey, Transport,
};

/// Counts the lookups.
#[derive(Clone, Default)]
struct Counting(MemoryStore, Arc<AtomicUsize>);

impl KeyStore for Counting {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.find(fingerprint)
    }
}

/// Texts that are refused, each with its reason and with how many lookups it may take.
async fn refused(
    store: &MemoryStore,
    hashing: &Hashing,
    now: SystemTime,
) -> Vec<(RejectionKind, usize, Vec<u8>)> {
    use RejectionKind as Kind;
    let account = "admin@example.com".parse().unwrap();
    let clock = ManualClock::at(now - Duration::from_hours(1));
    let manager = |store: &MemoryStore| {
        let manager = KeyManager::new(store.clone(), "acme".parse().unwrap());
        manager.with_hashing(hashing.clone()).with_clock(clock.clone())
    };
    let (here, elsewhere) = (manager(store), manager(&MemoryStore::new()));
    let new = || NewKey::new("A name".parse().unwrap());
    let create = async |manager: &KeyManager, new: NewKey| {
        let issued = manager.create(&account, new).await.unwrap();
        let id: KeyId = issued.record().id.clone();
        (id, issued.reveal().as_str().as_bytes().to_vec())
    };
    let strange = create(&elsewhere, new()).await.1;
    let with = |change: fn(&mut Vec<u8>)| {
        let mut text = strange.clone();
        change(&mut text);
        text
    };
    let (deleted, text_of_deleted) = create(&here, new()).await;
    here.delete(&account, &deleted).await.unwrap();
    let test = new().with_environment("test".parse().unwrap());
    let office = new().with_sources("203.0.113.0/24".parse().unwrap());
    vec![
        (Kind::UnknownKey, 1, strange.clone()),
        (Kind::WrongChecksum, 0, with(|text| *text.last_mut().unwrap() ^= 1)),
        (Kind::MalformedKey, 0, with(|text| text[20] = 0xff)),
        (Kind::MalformedKey, 0, with(|text| text.resize(257, b'x'))),
        (Kind::DeletedKey, 1, text_of_deleted),
        (Kind::ExpiredKey, 1, create(&here, new().with_expires_at(now)).await.1),
        (Kind::WrongEnvironment, 1, create(&here, test).await.1),
        (Kind::WrongSource, 1, create(&here, office).await.1),
    ]
}

/// What is counted, because no test can wait for a machine that is quiet enough to measure it;
/// `benches/constant_time` does.
#[tokio::test]
async fn a_key_is_hashed_once_whatever_it_is_refused_for() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    for hashing in [Hashing::default(), Hashing::peppered(Pepper::new(vec![7; 32]).unwrap())] {
        let store = Counting::default();
        let layer = ApiKeyLayer::new(store.clone())
            .with_transport(Transport::insecure_on_loopback())
            .with_environment("live".parse().unwrap())
            .with_clock(ManualClock::at(now))
            .with_hashing(hashing.clone());
        for (kind, lookups, text) in refused(&store.0, &hashing, now).await {
            let before = (MADE.get(), store.1.load(Ordering::Relaxed));
            assert_eq!(refusal_of(&layer, &text).await, kind);
            let after = (MADE.get(), store.1.load(Ordering::Relaxed));
            assert_eq!((after.0 - before.0, after.1 - before.1), (1, lookups), "{kind:?}");

            // And without the layer, of what is text at all.
            let Ok(text) = std::str::from_utf8(&text) else { continue };
            let refused = layer.verifier().verify_from(text, [127, 0, 0, 1].into()).await;
            assert_eq!(refused.unwrap_err().kind(), kind);
            assert_eq!(MADE.get() - after.0, 1, "{kind:?}, verified without the layer");
        }
    }
}

async fn refusal_of(layer: &ApiKeyLayer, text: &[u8]) -> RejectionKind {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(())));
    let mut request = Request::new(());
    request.headers_mut().insert("api-key", HeaderValue::from_bytes(text).unwrap());
    request.extensions_mut().insert(Connection::plain(SocketAddr::from(([127, 0, 0, 1], 1))));
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    response.extensions().get::<Rejection>().unwrap().kind()
}
