//! Keys in Redis 7 or later. Knows no other store, no verification and no HTTP.

mod demands;
mod link;
mod options;
mod record;
mod registry;
mod replicas;
mod scripts;
mod server;
mod usage;

use std::fmt;
use std::sync::Arc;

use redis::FromRedisValue;
use tokio::time::Instant;

use self::link::Link;
pub use self::options::RedisOptions;
use self::scripts::{Answer, Call, Keys};
use super::{Found, KeyStore, Looks, Lookup, StoreError};
use crate::digest::Fingerprint;

/// Keys in Redis; clones share the connections.
///
/// ```no_run
/// use tower_api_key::{ApiKeyLayer, KeyManager, RedisStore};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::connect("redis://127.0.0.1").await?;
/// let manager = KeyManager::new(store.clone(), "acme".parse()?);
/// let layer = ApiKeyLayer::new(store);
/// # Ok(()) }
/// ```
///
/// Verification and management use a connection each. [`RedisOptions`] has more to set.
///
/// For several processes and machines. Every write is one script, which Redis runs whole and alone; the
/// cap, the one first key and the one rotation are decided inside it.
///
/// # What is lost, and when
///
/// [`connect`](RedisStore::connect) refuses a server that has no append-only file (`appendonly yes`) or
/// that evicts keys when its memory is full (`maxmemory-policy noeviction`). Then:
///
/// * A Redis that is killed and started again has everything that it had answered.
/// * A power cut takes up to two seconds of writes with `appendfsync everysec`, which is the default: a
///   key that was shown may be gone, and *a key that was deleted may work again*. With `appendfsync
///   always`, each write is on the disk before it is answered, and nothing is lost.
/// * A failover takes what the replica had not received: replication is asynchronous, whatever
///   `appendfsync` is. Until it is noticed, the old primary may go on answering lookups. Sentinel closes
///   the connections to a primary that it demotes; whoever demotes one by hand should do so too
///   (`CLIENT KILL TYPE normal`).
///
/// A server that takes another's place may be set up otherwise. So each new connection is judged as the
/// first was, but not refused: *the store goes on*, because a service that is down is worse than a loss
/// that may come, and says in one error event for each connection what is wrong. Watch the log for it.
/// What is changed on a server while its connections are open is noticed with the next connection, and
/// `appendfsync` is only looked at by `connect`.
///
/// The digest of an ended secret is gone from the data at once; from the append-only file when Redis
/// next rewrites it (`BGREWRITEAOF`).
///
/// # What it needs of the server
///
/// All data of a namespace has one hash tag, thus is on one node of a cluster: give the URL of the
/// primary that has it (the store follows no redirections). Lookups read from the primary, too, because
/// a replica may be behind. With access rules, the user needs the keys `{namespace}:*` and the commands
/// `EVAL`, `EVALSHA`, `INFO`, `PING`, `HGET`, `PUBLISH` and `SUBSCRIBE` (channel `{namespace}:changes`) and what the scripts call: `GET`, `SET`, `TYPE`, `EXISTS`,
/// `UNLINK`, `HSET`, `HDEL`, `HEXISTS`, `HGETALL`, `HLEN`, `HMGET`, `HRANDFIELD`, `HSCAN`, `HSTRLEN`, `ZADD`, `ZCARD`,
/// `ZCOUNT`, `ZRANGEBYSCORE`, `ZREM`, `ZSCORE`, `XADD`, `XTRIM`, `XRANGE`, `XREVRANGE`; with `CONFIG GET`,
/// it can warn of `everysec`. Scripts that the server has forgotten are sent again.
///
/// A key takes about 460 bytes of Redis's memory with texts of usual lengths, one that expires up to 160
/// more, an ended one about 200, each day on which a key was used about 15, and the last 10,000 changes about 370 kB (as `MEMORY USAGE` counts).
/// When the memory is full (`maxmemory`), keys can still be deleted, replaced and rotated without a
/// grace; making new ones fails.
///
/// A record that cannot be read (an edit by hand) is passed over with an error event in the log, as if
/// it were not there; it still counts towards the cap until the time at which it was to expire, and
/// deleting it works. Those times are noted beside the records, too (`{namespace}:expiries:…`): who edits
/// one by hand edits both. Where they are gone, expired keys count as if they had not expired.
///
/// What was counted of a key is forgotten day by day when the key is used. Of keys that are used no more,
/// it is forgotten in time, a few at a time, when others of their account are.
///
/// # How long others wait
///
/// Redis runs one script at a time, and lookups wait meanwhile. Expired keys count towards no cap and stay
/// until they are deleted, so an account can have very many. No call keeps others waiting for longer
/// because of it: all take the same time for any number of them, but for three, which do their work in
/// pieces, some 5 to 20 ms each, between which others are answered. [`mark_used`](super::KeyRegistry::mark_used)
/// notes 200 uses at a time.
///
/// * [`list`](super::KeyRegistry::list) begins anew when a write to the account came between two pages:
///   all that it gives is of one moment. Where an account is both long and written to all the time, it
///   can run out of its time limit.
/// * [`delete_all`](super::KeyRegistry::delete_all) ends expired keys, where there are more than a
///   thousand, in steps of their own before all others, which it then ends in one. If it fails between,
///   or its future is dropped, it has ended nothing but keys that had expired; call it again.
///
/// * [`usage`](super::KeyRegistry::usage) asks for a hundred keys at a time, each as it then is. Of an ended
///   key it looks for the last secret, which has its name and says when it ended, in a thousand steps at most
///   for the hundred together: one for each time that a key was regenerated after its last use, the shortest
///   ways first. Where that is not enough, an earlier secret says it. The counts are whole.
///
/// With tens of thousands of keys, they need a [longer time limit](RedisOptions::with_time_limit) than
/// the default; `delete_all` can instead be called until it succeeds.
///
/// # When it does not answer
///
/// Each call has a time limit, after which the connection is given up and the next call makes another;
/// that is also how soon the store answers again after an outage. A write that ran into the limit may
/// have been done.
///
/// TLS (`rediss://`) is rustls with *ring*. An application that itself relies on rustls finding its one
/// cryptography by default, and uses another, has to install that as the process's default.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    verification: Link,
    management: Link,
    keys: Keys,
    looks: Looks,
}

impl RedisStore {
    /// Connects, with the settings of [`RedisOptions::new`].
    ///
    /// # Errors
    ///
    /// Those of [`RedisOptions::connect`].
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn connect(url: impl Into<String>) -> Result<Self, StoreError> {
        RedisOptions::new(url).connect().await
    }

    fn new(verification: Link, management: Link, keys: Keys) -> Self {
        Self(Arc::new(Shared { verification, management, keys, looks: Looks::default() }))
    }
}

impl Shared {
    async fn find(&self, fingerprint: Fingerprint) -> Found {
        let mut command = redis::cmd("HGET");
        command.arg(&self.keys.secrets).arg(fingerprint.to_string());
        let deadline = self.verification.deadline();
        let text: Option<Vec<u8>> = self.verification.ask(deadline, &command, || None).await?;
        Ok(text.and_then(|text| record::entry(fingerprint, &text)))
    }

    async fn call<T: FromRedisValue>(
        &self,
        deadline: Instant,
        call: Call,
    ) -> Result<T, StoreError> {
        let answer = self.management.ask(deadline, &call.by_hash(), || Some(call.by_text())).await;
        Ok(answer.inspect_err(|failure| {
            // The server became a replica: lookups leave it, too.
            if failure.is_of_a_replica() {
                self.verification.renew();
            }
        })?)
    }

    /// Calls a script that answers soon and does not write, beside the lookups: verification may
    /// depend on it, and must not wait behind somebody's long list.
    async fn call_beside_lookups(&self, call: Call) -> Result<Answer, StoreError> {
        let by_text = || Some(call.by_text());
        let deadline = self.verification.deadline();
        Ok(self.verification.ask(deadline, &call.by_hash(), by_text).await?)
    }
}

impl KeyStore for RedisStore {
    fn find(&self, fingerprint: Fingerprint) -> Lookup {
        let shared = Arc::clone(&self.0);
        Lookup::waiting(async move { shared.find(fingerprint).await })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}
