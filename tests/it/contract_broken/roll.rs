//! Faults in what replicas tell each other.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tower_api_key::store::contract::the_roll_is_kept_between_stores;
use tower_api_key::{
    Changes, KeyRegistry as _, MemoryStore, ReplicaId, Roll, SharedRegistry, Version,
};

use super::faulty::{Broken, Faulty, fault};
use super::writing::NoFault;
use crate::support::soon;

fault! {
    /// `INSERT … ON CONFLICT DO UPDATE`
    EnrolsAfresh {
        async fn enrol(&self, replica: ReplicaId) {
            self.good.withdraw(&[replica]).await.unwrap();
            self.good.enrol(replica).await.unwrap();
        }
    }
}

fault! {
    /// The latest version is what was told, not what was applied.
    NotesWhatItTells {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            let told = self.good.renew(replica, applied).await.unwrap()?;
            self.good.renew(replica, told.latest()).await.unwrap();
            Some(told)
        }
    }
}

fault! {
    NotesNothing {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            self.good.renew(replica, Version::default()).await.unwrap()?;
            Some(self.good.changes(applied).await.unwrap())
        }
    }
}

fault! {
    NotesAnything(Vec<(ReplicaId, Version)>) {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            self.state.lock().unwrap().push((replica, applied));
            self.good.renew(replica, applied).await.unwrap()
        }

        async fn roll(&self) -> Roll {
            let mut roll = self.good.roll().await.unwrap();
            for row in &mut roll.replicas {
                let noted = self.state.lock().unwrap();
                let noted = noted.iter().rev().find(|(replica, _)| *replica == row.id);
                row.applied = noted.map_or(row.applied, |(_, applied)| *applied);
            }
            roll
        }
    }
}

fault! {
    GrantsToStrangers {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            self.good.enrol(replica).await.unwrap();
            self.good.renew(replica, applied).await.unwrap()
        }
    }
}

fault! {
    SuspectsStrangers {
        async fn suspect(&self, replicas: &[ReplicaId]) {
            for replica in replicas {
                self.good.enrol(*replica).await.unwrap();
            }
            self.good.suspect(replicas).await.unwrap();
        }
    }
}

fault! {
    GrantsToSuspects {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            let granted = self.good.renew(replica, applied).await.unwrap();
            let roll = self.good.roll().await.unwrap();
            if granted.is_none() && roll.replicas.iter().any(|row| row.id == replica) {
                return Some(self.good.changes(applied).await.unwrap());
            }
            granted
        }
    }
}

fault! {
    /// The roll is read when the next one asks.
    HearsOfSuspicionsLate(Vec<ReplicaId>) {
        async fn suspect(&self, replicas: &[ReplicaId]) {
            self.state.lock().unwrap().extend(replicas);
        }

        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            let granted = self.good.renew(replica, applied).await.unwrap();
            let suspects = std::mem::take(&mut *self.state.lock().unwrap());
            self.good.suspect(&suspects).await.unwrap();
            granted
        }
    }
}

fault! {
    WithdrawsEverybody {
        async fn withdraw(&self, _: &[ReplicaId]) {
            let roll = self.good.roll().await.unwrap();
            let all: Vec<_> = roll.replicas.iter().map(|row| row.id).collect();
            self.good.withdraw(&all).await.unwrap();
        }
    }
}

fault! {
    WithdrawsNobody {
        async fn withdraw(&self, _: &[ReplicaId]) {}
    }
}

fault! {
    /// What was read for the renewal before.
    TellsLate(Option<Changes>) {
        async fn renew(&self, replica: ReplicaId, applied: Version) -> Option<Changes> {
            let told = self.good.renew(replica, applied).await.unwrap()?;
            self.state.lock().unwrap().replace(told.clone()).or(Some(told))
        }
    }
}

fault! {
    NeverWaits {
        async fn settle(&self) {}
    }
}

fault! {
    ForgetsTheRoll {
        async fn roll(&self) -> Roll {
            let roll = self.good.roll().await.unwrap();
            Roll { replicas: Vec::new(), ..roll }
        }
    }
}

/// What the roll's promises say to a store with this fault, if they object.
async fn objection<F: Faulty>() -> Option<String> {
    let store: Arc<dyn SharedRegistry> = Arc::new(Broken(F::default()));
    let stores = [Arc::clone(&store), store];
    let kept = AssertUnwindSafe(the_roll_is_kept_between_stores(&stores)).catch_unwind();
    let said = soon(kept).await.err()?;
    let text = said.downcast_ref::<String>().cloned();
    text.or_else(|| said.downcast_ref::<&str>().map(|&said| said.into()))
}

macro_rules! objected_to {
    ($($fault:ident: $by:literal,)*) => {
        $(
            let said = objection::<$fault>().await;
            let said = said.unwrap_or_else(|| panic!("nobody objects to {}", stringify!($fault)));
            assert!(said.contains($by), "{}: {said}", stringify!($fault));
        )*
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_with_a_fault_is_found_out() {
    objected_to! {
        EnrolsAfresh: "stays there as it is",
        NotesWhatItTells: "is not applied yet",
        NotesNothing: "stays there as it is",
        NotesAnything: "a store that went back",
        GrantsToStrangers: "who is not on the roll is refused",
        SuspectsStrangers: "only enrolling puts a replica on the roll",
        GrantsToSuspects: "a suspect is refused",
        HearsOfSuspicionsLate: "a suspect is refused",
        WithdrawsEverybody: "others stay on it",
        WithdrawsNobody: "who withdraws is off the roll",
        TellsLate: "a renewal tells what was written since",
        NeverWaits: "a write is settled when every replica has applied it",
        ForgetsTheRoll: "who enrols is on the roll",
    }
    assert_eq!(objection::<NoFault>().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_roll() {
    let store: Arc<dyn SharedRegistry> = Arc::new(MemoryStore::new());
    soon(the_roll_is_kept_between_stores(&[Arc::clone(&store), store])).await;
}
