//! Brings the database to the newest layout: whose is it, and which one has it?

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::connections::{Connections, run};
use crate::store::StoreError;

/// Each layout is reached from the one before it; the first from an empty schema.
const LAYOUTS: &[&str] = &[
    include_str!("layout-1.sql"),
    include_str!("layout-2.sql"),
    include_str!("layout-3.sql"),
    include_str!("layout-4.sql"),
];

/// The newest layout, kept in the table `layout`.
const NEWEST: i64 = 4;
const _: () = assert!(LAYOUTS.len() == 4, "NEWEST counts the layouts");

/// How long connecting and making the tables may take.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

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
        // Of many that open at once, one makes the tables and the others wait for it. The lock is
        // the transaction's, so that it is also given back behind a pooler.
        let lock = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(7809649)";
        let (mut connection, _) = shared.start(lock.to_owned()).await?;
        let refused = bring_up_to_date(&mut connection).await?;
        run(&mut connection, "COMMIT".to_owned()).await?;
        Ok(refused)
    });
    refused.await?.map_or(Ok(()), Err)
}

/// Makes what is missing, or says why this database must be left alone.
async fn bring_up_to_date(
    connection: &mut PgConnection,
) -> Result<Option<StoreError>, sqlx::Error> {
    let done = match look(connection).await? {
        Found::SomethingElse => {
            let what = "the schema tower_api_key holds tables of another application";
            return Ok(Some(StoreError::Foreign { store: "postgres", what }));
        }
        Found::Layout(found) if found > NEWEST => {
            return Ok(Some(StoreError::Newer { store: "postgres", found, known: NEWEST }));
        }
        Found::Layout(layout) => usize::try_from(layout).unwrap_or(0),
        Found::EmptySchema => 0,
        Found::NoSchema => {
            run(connection, "CREATE SCHEMA tower_api_key".to_owned()).await?;
            0
        }
    };
    for step in LAYOUTS.iter().skip(done) {
        run(connection, (*step).to_owned()).await?;
    }
    if done < LAYOUTS.len() {
        run(connection, format!("UPDATE tower_api_key.layout SET number = {NEWEST}")).await?;
    }
    Ok(None)
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
