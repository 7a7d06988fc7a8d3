//! A store that does what a test says: its reads and writes can be held open, fail, panic, and are
//! counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tower_api_key::{
    AccountId, Changes, Day, Fingerprint, KeyDigest, KeyId, KeyName, KeyRecord, KeyRegistry,
    KeyStore, KeyUsage, Lookup, MemoryStore, NewSecret, StoreError, Use, Version, Written,
};

/// How a call ends, after it has seen or done what it is for.
#[derive(Clone, Copy, Default)]
pub(super) enum End {
    #[default]
    Answers,
    Fails,
    TimesOut,
    Panics,
    /// Panics in `find` itself, before there is a future.
    PanicsAtOnce,
    /// Of `changes` only.
    HasForgotten,
}

/// What calls do that begin from now on.
#[derive(Clone, Default)]
pub(super) struct Plan {
    pub(super) end: End,
    /// Each call waits for a permit, between what it sees or does and its end.
    pub(super) gate: Option<Arc<Semaphore>>,
    /// Reads take a while, before and after they see what is there.
    pub(super) slow: bool,
}

impl Plan {
    pub(super) fn ends(end: End) -> Self {
        Self { end, ..Self::default() }
    }

    /// A plan that holds calls open, and what lets them go on.
    pub(super) fn held(end: End) -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        (Self { end, gate: Some(Arc::clone(&gate)), ..Self::default() }, gate)
    }

    async fn carry_out<T>(self, done: T) -> Result<T, StoreError> {
        if let Some(gate) = self.gate {
            gate.acquire().await.unwrap().forget();
        }
        match self.end {
            End::Answers | End::HasForgotten | End::PanicsAtOnce => Ok(done),
            End::Fails => Err(StoreError::unavailable("scripted", "the cable is cut")),
            End::TimesOut => Err(StoreError::timeout("scripted", Duration::from_secs(3))),
            End::Panics => panic_quietly(),
        }
    }
}

/// Without the panic hook's message, which would look like a failure in the test's output.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("the script says so"))
}

/// Clones share everything.
#[derive(Clone, Default)]
pub(super) struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    memory: MemoryStore,
    reads: AtomicUsize,
    open_reads: Arc<AtomicUsize>,
    read: Mutex<Plan>,
    write: Mutex<Plan>,
    changes: Mutex<Plan>,
}

impl Scripted {
    /// What is behind it: another process's view.
    pub(super) fn memory(&self) -> &MemoryStore {
        &self.0.memory
    }

    pub(super) fn read(&self, plan: Plan) {
        *self.0.read.lock().unwrap() = plan;
    }

    pub(super) fn write(&self, plan: Plan) {
        *self.0.write.lock().unwrap() = plan;
    }

    pub(super) fn changes(&self, plan: Plan) {
        *self.0.changes.lock().unwrap() = plan;
    }

    /// How many reads have begun.
    pub(super) fn reads(&self) -> usize {
        self.0.reads.load(Ordering::SeqCst)
    }

    /// How many reads have begun and were neither answered nor dropped.
    pub(super) fn open_reads(&self) -> usize {
        self.0.open_reads.load(Ordering::SeqCst)
    }

    async fn after_write<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        let plan = self.0.write.lock().unwrap().clone();
        plan.carry_out(done).await?
    }
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl KeyStore for Scripted {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let plan = self.0.read.lock().unwrap().clone();
        if matches!(plan.end, End::PanicsAtOnce) {
            panic_quietly();
        }
        self.0.open_reads.fetch_add(1, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.0.open_reads));
        let memory = self.0.memory.clone();
        Lookup::waiting(async move {
            let slow = plan.slow;
            if slow {
                a_while().await;
            }
            // What is there now, however late the answer comes.
            let found = memory.find(fingerprint).await;
            let found = plan.carry_out(found).await?;
            if slow {
                a_while().await;
            }
            drop(open);
            found
        })
    }
}

/// Lets others run: a few times or, now and then, often.
async fn a_while() {
    static STATE: AtomicU64 = AtomicU64::new(1);
    let random = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let random = (random ^ (random >> 31)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let times = if (random >> 33).is_multiple_of(4) { 40 } else { (random >> 40) % 4 };
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl KeyRegistry for Scripted {
    async fn insert(
        &self,
        record: Arc<KeyRecord>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        self.after_write(self.memory().insert(record, limit).await).await
    }

    async fn insert_first(&self, record: Arc<KeyRecord>) -> Result<Written<()>, StoreError> {
        self.after_write(self.memory().insert_first(record).await).await
    }

    async fn list(&self, account: &AccountId) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.memory().list(account).await
    }

    async fn get(
        &self,
        account: &AccountId,
        id: &KeyId,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.memory().get(account, id).await
    }

    async fn rename(
        &self,
        account: &AccountId,
        id: &KeyId,
        name: KeyName,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.after_write(self.memory().rename(account, id, name).await).await
    }

    async fn replace(
        &self,
        account: &AccountId,
        id: &KeyId,
        secret: NewSecret,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.after_write(self.memory().replace(account, id, secret, at).await).await
    }

    async fn rehash(
        &self,
        account: &AccountId,
        id: &KeyId,
        old: Fingerprint,
        digest: KeyDigest,
        at: SystemTime,
    ) -> Result<Written<Arc<KeyRecord>>, StoreError> {
        self.after_write(self.memory().rehash(account, id, old, digest, at).await).await
    }

    async fn rotate(
        &self,
        account: &AccountId,
        id: &KeyId,
        successor: Arc<KeyRecord>,
        grace_ends: Option<SystemTime>,
        limit: usize,
    ) -> Result<Written<()>, StoreError> {
        let done = self.memory().rotate(account, id, successor, grace_ends, limit).await;
        self.after_write(done).await
    }

    async fn delete(
        &self,
        account: &AccountId,
        id: &KeyId,
        at: SystemTime,
    ) -> Result<Written<()>, StoreError> {
        self.after_write(self.memory().delete(account, id, at).await).await
    }

    async fn delete_all(&self, account: &AccountId, at: SystemTime) -> Result<usize, StoreError> {
        self.after_write(self.memory().delete_all(account, at).await).await
    }

    async fn mark_used(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.memory().mark_used(uses).await
    }

    async fn settle(&self) {
        self.memory().settle().await;
    }

    async fn usage(&self, account: &AccountId, since: Day) -> Result<Vec<KeyUsage>, StoreError> {
        self.memory().usage(account, since).await
    }

    async fn changes(&self, since: Version) -> Result<Changes, StoreError> {
        let plan = self.0.changes.lock().unwrap().clone();
        let changes = match (plan.end, self.memory().changes(since).await?) {
            (End::HasForgotten, Changes::Known { latest, .. }) => Changes::Forgotten { latest },
            (_, changes) => changes,
        };
        plan.carry_out(changes).await
    }
}
