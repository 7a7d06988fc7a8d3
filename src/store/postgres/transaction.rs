//! One write, from its beginning to a commit that has a version.

use std::fmt::{self, Write as _};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::connections::{Connections, Lent, run};
use crate::digest::Fingerprint;
use crate::store::CHANGES_KEPT;

/// A time limit as the server counts it: from 1 to what it can hold.
#[derive(Clone, Copy)]
pub(super) struct Milliseconds(i32);

impl Milliseconds {
    pub(super) fn new(limit: Duration) -> Self {
        Self(i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1))
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the server says that something was written.
pub(super) const CHANNEL: &str = "tower_api_key";

/// Whatever is looked for in a large table has its index. Of an account with very many tombstones the server
/// thinks that as many of its keys live as of others', and would read the whole table to count them. What it
/// then thinks of the tables of one row would have it compile its plans.
const BY_INDEX: &str = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off";

/// An open transaction. Dropped, it is rolled back, and its connection is closed.
pub(super) struct Transaction(Lent);

impl Transaction {
    /// Begins a write.
    ///
    /// Whatever the server's defaults are: READ COMMITTED, because counting under a lock must see
    /// what was committed while the lock was waited for; and the commit is on the disk (and on the
    /// synchronous standby, where there is one) when it returns. A stronger setting stays.
    ///
    /// The server ends what the client may have lost sight of, so that no lock outlives its owner.
    pub(super) async fn begin(
        connections: &Connections,
        limit: Milliseconds,
    ) -> Result<Self, sqlx::Error> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL statement_timeout = {limit};
             SET LOCAL idle_in_transaction_session_timeout = {limit};
             {BY_INDEX};
             SELECT set_config('synchronous_commit', 'on', true)
             WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
        );
        let (lent, _) = connections.start(begin).await?;
        Ok(Self(lent))
    }

    /// Begins reading. The server gives up what nobody waits for here, too: a backend that waits for a
    /// lock does not see that its client has gone, and takes up one of the server's connections.
    pub(super) async fn begin_reading(
        connections: &Connections,
        limit: Milliseconds,
    ) -> Result<Self, sqlx::Error> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
             SET LOCAL statement_timeout = {limit};
             SET LOCAL idle_in_transaction_session_timeout = {limit};
             {BY_INDEX}"
        );
        let (lent, _) = connections.start(begin).await?;
        Ok(Self(lent))
    }

    /// Commits a write that touched these secrets, and gives it the next version.
    ///
    /// Of the old changes only the next few are deleted, so that not every write passes over all
    /// that were deleted before and that the server still keeps for somebody's long transaction.
    ///
    /// All in one message, so that the version's row, which all writes share, is locked only while
    /// the server commits and not while anything travels.
    pub(super) async fn commit<T>(
        mut self,
        touched: &[Fingerprint],
        answer: T,
    ) -> Result<T, sqlx::Error> {
        let mut rows = String::new();
        for (position, fingerprint) in touched.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            // Writing to a `String` cannot fail.
            let _ = write!(rows, "{comma}('{fingerprint}')");
        }
        let commit = format!(
            "WITH next AS (UPDATE tower_api_key.latest SET version = version + 1 RETURNING version)
             INSERT INTO tower_api_key.changes (version, fingerprint)
             SELECT version, decode(hex, 'hex') FROM next, (VALUES {rows}) AS touched (hex);
             DELETE FROM tower_api_key.changes USING tower_api_key.latest
             WHERE changes.version BETWEEN latest.version - {CHANGES_KEPT} - 10
                                       AND latest.version - {CHANGES_KEPT};
             NOTIFY {CHANNEL};
             COMMIT"
        );
        run(&mut self.0, commit).await?;
        self.0.give_back();
        Ok(answer)
    }

    /// Ends a transaction that wrote nothing, or nothing that has a version.
    pub(super) async fn end<T>(mut self, answer: T) -> Result<T, sqlx::Error> {
        run(&mut self.0, "COMMIT".to_owned()).await?;
        self.0.give_back();
        Ok(answer)
    }

    /// Undoes everything.
    pub(super) async fn undo<T>(mut self, answer: T) -> Result<T, sqlx::Error> {
        run(&mut self.0, "ROLLBACK".to_owned()).await?;
        self.0.give_back();
        Ok(answer)
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
