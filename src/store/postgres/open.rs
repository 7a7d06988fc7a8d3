//! Brings the database to the newest layout, a step at a time: whose is it, and which one has it?

use std::time::Duration;

use sqlx::Row as _;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnection;

use super::connections::{Connections, run};
use super::transaction::Milliseconds;
use crate::store::StoreError;

/// Each layout is reached from the one before it, in a transaction of its own; the first from an empty schema.
/// Of the locks on a table that others use each takes one kind, so that nobody waits for it in a circle.
const LAYOUTS: &[&str] = &[
    include_str!("layout-1.sql"),
    include_str!("layout-2.sql"),
    include_str!("layout-3.sql"),
    include_str!("layout-4.sql"),
    include_str!("layout-5.sql"),
];

/// The newest layout, kept in the table `layout`.
const NEWEST: i64 = 5;
const _: () = assert!(LAYOUTS.len() == 5, "NEWEST counts the layouts");

/// How long connecting and making the tables may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// How long a step waits for a table that is in use. Whoever comes after it waits behind it, lookups too, and
/// they have no longer than half a second.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long others then have the table to themselves.
const PAUSE: Duration = Duration::from_millis(300);

/// What the database holds under our name.
enum Found {
    NoSchema,
    EmptySchema,
    Layout(i64),
    SomethingElse,
}

pub(super) async fn open(connections: &Connections) -> Result<(), StoreError> {
    let shared = connections.clone();
    let refused = connections.within_limit(async move {
        loop {
            match step(&shared).await {
                Ok(Step::Made) => {}
                Ok(Step::NoneLeft) => return Ok(None),
                Ok(Step::Refused(refused)) => return Ok(Some(refused)),
                Err(error) if is_in_use(&error) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    });
    refused.await?.map_or(Ok(()), Err)
}

/// What came of a step.
enum Step {
    Made,
    NoneLeft,
    /// Why this database must be left alone.
    Refused(StoreError),
}

/// The way to the next layout, if there is one.
async fn step(connections: &Connections) -> Result<Step, sqlx::Error> {
    // Of many that open at once, one makes the tables and the others wait for it. The lock is the
    // transaction's, so that it is also given back behind a pooler. A server does not see that a client has
    // gone which it lets wait, or makes an index for.
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED;
         SET LOCAL statement_timeout = {};
         SELECT pg_advisory_xact_lock(7809649);
         SET LOCAL lock_timeout = {}",
        Milliseconds::new(LIMIT),
        Milliseconds::new(PATIENCE)
    );
    let (mut connection, _) = connections.start(begin).await?;
    let made = next_layout(&mut connection).await?;
    run(&mut connection, "COMMIT".to_owned()).await?;
    connection.give_back();
    Ok(made)
}

async fn next_layout(connection: &mut PgConnection) -> Result<Step, sqlx::Error> {
    let done = match look(connection).await? {
        Found::SomethingElse => {
            let what = "the schema tower_api_key holds tables of another application";
            return Ok(Step::Refused(StoreError::Foreign { store: "postgres", what }));
        }
        Found::Layout(found) if found > NEWEST => {
            let newer = StoreError::Newer { store: "postgres", found, known: NEWEST };
            return Ok(Step::Refused(newer));
        }
        Found::Layout(layout) => usize::try_from(layout).unwrap_or(0),
        Found::EmptySchema => 0,
        Found::NoSchema => {
            run(connection, "CREATE SCHEMA tower_api_key".to_owned()).await?;
            0
        }
    };
    let Some(&step) = LAYOUTS.get(done) else { return Ok(Step::NoneLeft) };
    run(connection, step.to_owned()).await?;
    run(connection, format!("UPDATE tower_api_key.layout SET number = {}", done + 1)).await?;
    Ok(Step::Made)
}

/// Whether it was only that others used a table meanwhile: a lock that was not to be had, or a circle.
fn is_in_use(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

async fn look(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let rows = run(
        connection,
        "SELECT to_regnamespace('tower_api_key') IS NOT NULL AS schema,
                to_regclass('tower_api_key.layout') IS NOT NULL AS layout,
                EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('tower_api_key')) AS tables"
            .to_owned(),
    )
    .await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(match (row.try_get("schema")?, row.try_get("layout")?, row.try_get("tables")?) {
        (false, ..) => Found::NoSchema,
        (true, true, _) => {
            let rows =
                run(connection, "SELECT number::bigint FROM tower_api_key.layout".to_owned())
                    .await?;
            match rows.as_slice() {
                [row] => Found::Layout(row.try_get(0)?),
                _ => Found::SomethingElse,
            }
        }
        (true, false, false) => Found::EmptySchema,
        (true, false, true) => Found::SomethingElse,
    })
}
