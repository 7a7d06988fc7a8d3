//! The connection ends in the middle of a write, at many places, the answer's loss included.

use std::sync::Arc;

use tower_api_key::{AccountId, Fingerprint, MemoryStore};

use super::backend::PATIENCE;
use super::calls::{Call, Kind};
use super::state::{snapshot, version};
use super::{Backend, Store};
use crate::servers::Wire;
use crate::support::{account, record, soon, time};

/// Places at which each kind of call is cut.
const CUTS: u64 = 24;

/// Keys that an account may have here: the calls that add one come to the cap.
const LIMIT: usize = 3;

/// A store behind a wire, the same store by another way, and the store in memory to compare with.
struct Bench {
    backend: Backend,
    wire: Wire,
    cut_off: Store,
    direct: Store,
    oracle: Store,
    /// Whether every call is the first of its kind to the server.
    is_first: bool,
    /// The server's clients when none comes over the wire.
    clients: usize,
}

/// Whatever the place at which it is cut: a write is done or not done, as in memory, in all that can
/// be read; an answered one is done.
pub(super) async fn a_write_that_is_cut_off_is_whole(backend: Backend) {
    let mut bench = Bench::new(backend).await;
    // Once more with a call that says more.
    for (number, kind) in Kind::ALL.into_iter().chain([Kind::RotateWithGrace]).enumerate() {
        bench.is_first = number == Kind::ALL.len();
        let owner = account(&format!("{kind:?}-{number}"));
        bench.bytes_of(kind, &owner).await;
        // From the second time on, it is as long as it stays.
        let bytes = bench.bytes_of(kind, &owner).await;
        let mut tally = Tally::default();
        for place in 0..=CUTS {
            bench.cut(kind, &owner, bytes * place / CUTS, &mut tally).await;
        }
        let name = bench.backend.name();
        println!("{name}: {kind:?} of {bytes} bytes, cut at {} places: {tally:?}", CUTS + 1);
        assert!(tally.undone > 0 && tally.done > 0, "cut before and after it was done");
        assert!(tally.answered <= 1, "the cuts are where the call is");
    }
}

/// How the calls ended.
#[derive(Debug, Default)]
struct Tally {
    undone: u32,
    done: u32,
    answered: u32,
}

impl Bench {
    async fn new(backend: Backend) -> Self {
        let wire = Wire::to(backend.port()).await;
        let cut_off = backend.connect_within(PATIENCE, wire.port()).await.unwrap();
        let direct = backend.connect().await;
        let oracle: Store = Arc::new(MemoryStore::new());
        // Its connections are open from here on, and no others are.
        snapshot(&direct, &account("a"), &[], version(&direct).await).await;
        direct.find(record(&account("a"), time(0)).fingerprint()).await.unwrap();
        wire.cut().await;
        let mut clients = usize::MAX;
        // Until those that were cut off have gone.
        for _ in 0..100 {
            let before = std::mem::replace(&mut clients, backend.clients().await);
            if before == clients {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        wire.heal().await;
        Self { backend, wire, cut_off, direct, oracle, is_first: false, clients }
    }

    /// How much a call sends, over a connection that is open.
    async fn bytes_of(&self, kind: Kind, owner: &AccountId) -> u64 {
        let (owner, _) = self.prepare(kind, owner).await;
        let id = self.oracle.list(&owner).await.unwrap().first().map(|record| record.id.clone());
        let call = kind.call(&owner, &id.unwrap_or_else(|| "none".parse().unwrap()));
        self.warm(&owner).await;
        let before = self.wire.passed();
        call.run(&self.cut_off, &owner, LIMIT).await.unwrap();
        let bytes = self.wire.passed() - before;
        call.run(&self.oracle, &owner, LIMIT).await.unwrap();
        bytes
    }

    /// Makes one call, and cuts the wire after so many bytes of it.
    async fn cut(&self, kind: Kind, owner: &AccountId, bytes: u64, tally: &mut Tally) {
        let (owner, mut secrets) = self.prepare(kind, owner).await;
        let id = self.oracle.list(&owner).await.unwrap().first().map(|record| record.id.clone());
        let call = kind.call(&owner, &id.unwrap_or_else(|| "none".parse().unwrap()));
        secrets.extend(call.secret());
        let since = version(&self.oracle).await;
        let before = snapshot(&self.oracle, &owner, &secrets, since).await;

        self.warm(&owner).await;
        self.wire.cut_after(bytes);
        let answer = call.run(&self.cut_off, &owner, LIMIT).await;
        self.wire.cut().await;
        self.backend.until_clients_are(self.clients).await;
        self.wire.heal().await;

        let after = snapshot(&self.direct, &owner, &secrets, since).await;
        if after == before {
            tally.undone += 1;
            assert!(answer.is_err(), "{call:?} was answered {answer:?} after {bytes} bytes");
        } else {
            tally.done += 1;
            let said = call.run(&self.oracle, &owner, LIMIT).await.unwrap();
            assert_eq!(after, snapshot(&self.oracle, &owner, &secrets, since).await, "{call:?}");
            if let Ok(answer) = answer {
                tally.answered += 1;
                assert_eq!(answer, said);
            }
        }
    }

    /// Opens the connection that the call will use.
    async fn warm(&self, owner: &AccountId) {
        let opening = async {
            // After an attempt in vain, a store lets some time pass before the next.
            while self.cut_off.list(owner).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        soon(opening).await;
        if self.is_first {
            self.backend.forget_calls().await;
        }
    }

    /// Two keys of the account, or an account that has none and never had; the same everywhere.
    async fn prepare(&self, kind: Kind, owner: &AccountId) -> (AccountId, Vec<Fingerprint>) {
        if let Kind::InsertFirst = kind {
            let unique = record(owner, time(0)).id;
            return (account(unique.as_str()), Vec::new());
        }
        for store in [&self.oracle, &self.direct] {
            store.delete_all(owner, time(5)).await.unwrap();
        }
        let mut secrets = Vec::new();
        for age in 0..2 {
            let new = Arc::new(record(owner, time(age)));
            secrets.push(new.fingerprint());
            for store in [&self.oracle, &self.direct] {
                let call = Call::Insert(Arc::clone(&new));
                assert_eq!(call.run(store, owner, LIMIT).await.unwrap(), "Done(())");
            }
        }
        (owner.clone(), secrets)
    }
}
