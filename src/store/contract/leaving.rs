//! Promises about writes whose caller goes away, as a handler does when its client disconnects.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::given::{
    NO_CAP, Store, account, assert_shown, ended, insert, is_live, live, record, said, secret, time,
};
use crate::store::Written;

/// Polls a call a few times and drops it; a higher `round` goes further.
async fn begin<T>(round: u32, call: impl Future<Output = T>) {
    let mut call = pin!(call);
    let a_moment = Duration::from_micros(u64::from(round) * 5);
    for _ in 0..round % 4 {
        if tokio::time::timeout(a_moment, call.as_mut()).await.is_ok() {
            return;
        }
    }
}

/// A rotation whose future is dropped has happened or has not: an old key names a successor exactly
/// if that is there. The store goes on.
pub async fn a_write_whose_caller_goes_away_is_whole(store: Store) {
    let owner = account("a");
    let mut keys = 0;
    for round in 0..40 {
        let key = insert(&store, record(&owner, time(0))).await;
        let successor = Arc::new(record(&owner, time(1)));
        begin(round, store.rotate(&owner, &key.id, successor, Some(time(50)), NO_CAP)).await;
        keys += 1;
    }
    insert(&store, record(&owner, time(2))).await;
    let listed = store.list(&owner).await.unwrap();
    for key in &listed {
        assert!(is_live(&store, key.fingerprint()).await, "listed, but not found");
    }
    let named = listed.iter().filter_map(|key| key.replaced_by.as_ref());
    for successor in named.clone() {
        let is_listed = listed.iter().any(|key| key.id == *successor);
        assert!(is_listed, "a key names a successor that is not there");
    }
    assert_eq!(listed.len(), keys + 1 + named.count(), "a successor whose old key is as it was");
}

/// A write whose future was dropped and that is then repeated has happened once.
pub async fn a_write_whose_caller_went_away_can_be_repeated(store: Store) {
    for round in 0..24 {
        let owner = account(&format!("round-{round}"));
        let key = Arc::new(record(&owner, time(0)));
        begin(round, store.insert(Arc::clone(&key), 2)).await;
        let again = said(store.insert(Arc::clone(&key), 2).await);
        assert!(matches!(again, Written::Done(()) | Written::Taken), "insert said {again:?}");
        assert_shown(&store, &key).await;

        let new = secret();
        begin(round, store.replace(&owner, &key.id, new.clone(), time(1))).await;
        let again = said(store.replace(&owner, &key.id, new.clone(), time(1)).await);
        assert!(matches!(again, Written::Done(()) | Written::Taken), "replace said {again:?}");
        ended(&store, key.fingerprint()).await;
        live(&store, new.digest.fingerprint()).await;

        let (old, hashed) = (new.digest.fingerprint(), secret().digest);
        let rehash = || store.rehash(&owner, &key.id, old, hashed.clone(), time(1));
        begin(round, rehash()).await;
        let again = said(rehash().await);
        assert!(matches!(again, Written::Done(()) | Written::NotFound), "rehash said {again:?}");
        ended(&store, old).await;
        live(&store, hashed.fingerprint()).await;

        let next = Arc::new(record(&owner, time(2)));
        begin(round, store.rotate(&owner, &key.id, Arc::clone(&next), None, 1)).await;
        let again = said(store.rotate(&owner, &key.id, Arc::clone(&next), None, 1).await);
        assert!(matches!(again, Written::Done(()) | Written::NotFound), "rotate said {again:?}");
        ended(&store, hashed.fingerprint()).await;
        assert_shown(&store, &next).await;

        begin(round, store.delete(&owner, &next.id, time(3))).await;
        let again = said(store.delete(&owner, &next.id, time(3)).await);
        assert!(matches!(again, Written::Done(()) | Written::NotFound), "delete said {again:?}");
        ended(&store, next.fingerprint()).await;
        assert!(store.list(&owner).await.unwrap().is_empty(), "deleted, yet listed");
    }
}
