//! The roll of the replicas, and what tells them that something was written.

use std::time::Duration;

use super::scripts::{self, Answer, Call, Text};
use super::{RedisStore, record};
use crate::store::{
    CHANGES_KEPT, Changes, Enrolled, ReplicaId, Roll, SharedRegistry, StoreError, Version,
};

/// How long after a subscription was lost, or could not be made, there is another try.
const PAUSE: Duration = Duration::from_secs(1);

/// After this time it is made anew: a connection that has died without a word says as much as one on
/// which nothing happens.
const LISTENING: Duration = Duration::from_mins(5);

/// Beside the lookups: it must not wait for management.
#[async_trait::async_trait]
impl SharedRegistry for RedisStore {
    async fn enrol(&self, replica: ReplicaId) -> Result<(), StoreError> {
        self.done(self.on_the_roll(&scripts::ENROL).with(replica.to_string())).await
    }

    async fn renew(
        &self,
        replica: ReplicaId,
        applied: Version,
    ) -> Result<Option<Changes>, StoreError> {
        let call = self
            .on_the_roll(&scripts::RENEW)
            .with(applied.get())
            .with(applied.get().saturating_add(1))
            .with(CHANGES_KEPT)
            .with(replica.to_string());
        match scripts::written(self.0.call_beside_lookups(call).await?)? {
            crate::store::Written::Done(found) => {
                record::changes(applied, &found).map(Some).map_err(unreadable)
            }
            _ => Ok(None),
        }
    }

    async fn withdraw(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let call = self.on_the_roll(&scripts::WITHDRAW);
        self.done(replicas.iter().fold(call, |call, replica| call.with(replica.to_string()))).await
    }

    async fn roll(&self) -> Result<Roll, StoreError> {
        let call = self.on_the_roll(&scripts::ROLL);
        let found = scripts::read(self.0.call_beside_lookups(call).await?)?;
        roll(&found).ok_or_else(|| unreadable("the roll of the replicas is damaged"))
    }

    async fn suspect(&self, replicas: &[ReplicaId]) -> Result<(), StoreError> {
        let call = self.on_the_roll(&scripts::SUSPECT);
        self.done(replicas.iter().fold(call, |call, replica| call.with(replica.to_string()))).await
    }

    async fn watch(&self, wake: &(dyn Fn() + Send + Sync)) {
        loop {
            // Why it ended is of no interest: lookups use the same server, and say.
            let channel = self.0.keys.changes();
            let listening = self.0.verification.server().listen(&channel, wake);
            let _ = tokio::time::timeout(LISTENING, listening).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl RedisStore {
    fn on_the_roll(&self, script: &'static Text) -> Call {
        Call::on_the_roll(script, &self.0.keys)
    }

    async fn done(&self, call: Call) -> Result<(), StoreError> {
        scripts::read(self.0.call_beside_lookups(call).await?).map(drop)
    }
}

fn roll(found: &Answer) -> Option<Roll> {
    let number = |text: &[u8]| str::from_utf8(text).ok()?.parse().ok().map(Version::new);
    let (version, rows) = found.split_first()?;
    let (rows, rest) = rows.as_chunks::<3>();
    let enrolled = |[id, applied, suspect]: &[Vec<u8>; 3]| {
        let mut bytes = [0; 16];
        hex::decode_to_slice(id, &mut bytes).ok()?;
        let id = ReplicaId::from_bytes(bytes);
        Some(Enrolled { id, applied: number(applied)?, is_suspected: suspect == b"suspect" })
    };
    let replicas = rows.iter().map(enrolled).collect::<Option<_>>()?;
    rest.is_empty().then_some(Roll { version: number(version)?, replicas })
}

fn unreadable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::unavailable("redis", why)
}
