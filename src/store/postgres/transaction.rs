//! One write, from its beginning to a commit that has a version.

use std::fmt::Write as _;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::connections::{Connections, Lent, run};
use crate::digest::Fingerprint;
use crate::store::CHANGES_KEPT;

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
        limit: Duration,
    ) -> Result<Self, sqlx::Error> {
        let limit = limit.as_millis().max(1);
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED;
             SET LOCAL statement_timeout = {limit};
             SET LOCAL idle_in_transaction_session_timeout = {limit};
             SELECT set_config('synchronous_commit', 'on', true)
             WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
        );
        let (lent, _) = connections.start(begin).await?;
        Ok(Self(lent))
    }

    /// Begins reading at one moment.
    pub(super) async fn begin_reading(connections: &Connections) -> Result<Self, sqlx::Error> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY";
        let (lent, _) = connections.start(begin.to_owned()).await?;
        Ok(Self(lent))
    }

    /// Commits a write that touched these secrets, and gives it the next version.
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
             DELETE FROM tower_api_key.changes
             WHERE version <= (SELECT version - {CHANGES_KEPT} FROM tower_api_key.latest);
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
