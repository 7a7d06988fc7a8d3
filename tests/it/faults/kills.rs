//! The server is killed while keys are made, replaced and deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tower_api_key::{AccountId, Fingerprint};

use super::ledger::Ledger;
use super::state::coherent;
use super::{Backend, Store};
use crate::support::{account, soon};

/// After each of so many kills at different moments: no answered creation is lost, and nothing whose
/// end was answered lives.
pub(super) async fn answered_writes_survive(backend: Backend, kills: u64) {
    let store = backend.connect().await;
    let all = Ledger::default();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..kills {
        let ledger = Ledger::default();
        let stop = Arc::new(AtomicBool::new(false));
        let writers = owners().map(|owner| {
            tokio::spawn(write_on(Arc::clone(&store), ledger.clone(), owner, Arc::clone(&stop)))
        });
        // Somewhere in the middle of the work, at another place each time.
        tokio::time::sleep(Duration::from_micros(5_000 + round * 1_237 % 60_000)).await;
        backend.kill();
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            soon(writer).await.unwrap();
        }
        let down = Instant::now();
        backend.restart();
        slowest = slowest.max(down.elapsed());
        soon(answers(&store)).await;
        ledger.check(&store).await;
        all.take(&ledger);
    }
    let (created, ended) = all.check(&store).await;
    for owner in owners() {
        coherent(&store, &owner, &[]).await;
    }
    println!(
        "{}: {kills} kills in {:.0?}, {created} answered creations, {ended} answered ends, slowest restart {slowest:.0?}",
        backend.name(),
        start.elapsed(),
    );
    let least = usize::try_from(kills).unwrap();
    assert!(created > 3 * least && ended > least, "{created} {ended}");
}

/// Those who write at the same time.
fn owners() -> [AccountId; 3] {
    ["one", "two", "three"].map(account)
}

async fn write_on(store: Store, ledger: Ledger, owner: AccountId, stop: Arc<AtomicBool>) {
    for number in 0_u32.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // What fails was not answered, which the ledger knows.
        let Ok(key) = ledger.create(&store, &owner).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let _ = match number % 4 {
            0 => ledger.replace(&store, &key).await,
            1 => Ok(()),
            _ => ledger.delete(&store, &key).await,
        };
    }
}

async fn answers(store: &Store) {
    let probe = Fingerprint::from_bytes([0; 8]);
    while store.list(&account("a")).await.is_err() || store.find(probe).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
