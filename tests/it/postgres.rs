//! What is particular to PostgreSQL: whose tables, under which settings, through what, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tower_api_key::{
    AccountId, Day, Entry, KeyManager, KeyRecord, KeyRegistry as _, KeyStore as _, NewSecret,
    PostgresOptions, PostgresStore, StoreError, Use, Written,
};

use crate::contract::{bound_keys_are_kept_beside_what_was_there, uses_are_kept_of_what_was_there};
use crate::servers::{PgBouncer, Postgres, Wire};
use crate::support::{Log, account, digest, named, record, soon, text, time};

async fn sql(url: &str, statements: &str) -> Vec<sqlx::postgres::PgRow> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    let rows = rows.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

async fn one<T>(url: &str, statement: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sql(url, statement).await[0].try_get(0).unwrap()
}

/// A store that waits for a busy machine, where the time limit is not what is asked about.
async fn connect(url: &str) -> Result<PostgresStore, StoreError> {
    let options = PostgresOptions::new(url)?.with_time_limit(Duration::from_secs(20));
    options.connect().await
}

async fn filled(url: &str) -> (AccountId, Vec<Arc<KeyRecord>>) {
    let store = connect(url).await.unwrap();
    let owner = account("a");
    for number in 0..3 {
        let made = Arc::new(record(&owner, time(number)));
        assert_eq!(store.insert(made, 25).await.unwrap(), Written::Done(()));
    }
    let listed = store.list(&owner).await.unwrap();
    store.close();
    (owner, listed)
}

/// How many were done of this many insertions at once, by several processes' worth of connections.
async fn race_to_the_cap(url: &str) -> usize {
    let limit = Duration::from_secs(20);
    let mut stores = Vec::new();
    for _ in 0..8 {
        let options = PostgresOptions::new(url).unwrap().with_time_limit(limit);
        stores.push(options.with_management_connections(8).connect().await.unwrap());
    }
    let owner = account("a");
    let calls: Vec<_> = (0..64)
        .map(|number| {
            let (store, made) = (stores[number % 8].clone(), Arc::new(record(&owner, time(0))));
            tokio::spawn(async move { store.insert(made, 25).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        done += usize::from(call.await.unwrap() == Written::Done(()));
    }
    assert_eq!(stores[0].list(&owner).await.unwrap().len(), done);
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_made_once_and_keys_are_there_when_connecting_again() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let opened: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { connect(&url).await })
        })
        .collect();
    for store in opened {
        store.await.unwrap().unwrap().close();
    }
    let (owner, before) = filled(&url).await;
    let after = connect(&url).await.unwrap().list(&owner).await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}

#[tokio::test]
async fn tables_from_a_newer_version_are_refused_and_left_alone() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    filled(&url).await;
    sql(&url, "UPDATE tower_api_key.layout SET number = 7").await;
    let refused = connect(&url).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 7, known: 5, .. }), "{refused:?}");
    assert_eq!(one::<i64>(&url, "SELECT count(*) FROM tower_api_key.secrets").await, 3);
}

#[tokio::test]
async fn tables_of_the_first_layout_are_brought_to_the_newest() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let (live, left) = (record(&account("a"), time(0)), record(&account("a"), time(0)));
    let digest =
        live.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "CREATE SCHEMA tower_api_key; {};
         INSERT INTO tower_api_key.accounts VALUES ('a');
         INSERT INTO tower_api_key.secrets VALUES
             ('\\x{}', '\\x{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, 7, NULL, NULL),
             ('\\x{}', NULL, '{}', 'a', 'Left', NULL, '', '', 5, NULL, NULL, NULL, 6, 'deleted')",
        include_str!("../../src/store/postgres/layout-1.sql"),
        live.fingerprint(),
        live.id,
        left.fingerprint(),
        left.id,
    );
    sql(&url, &statements).await;
    let opened: Vec<_> = (0..4)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { connect(&url).await })
        })
        .collect();
    for store in opened {
        store.await.unwrap().unwrap().close();
    }
    assert_eq!(one::<i32>(&url, "SELECT number FROM tower_api_key.layout").await, 5);
    let store = connect(&url).await.unwrap();
    uses_are_kept_of_what_was_there(&store, &live, &left).await;
}

#[tokio::test]
async fn tables_of_the_second_layout_are_brought_to_the_newest() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let (live, left) = (record(&account("a"), time(0)), record(&account("a"), time(0)));
    let digest =
        live.digest.as_bytes().iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
    let statements = format!(
        "CREATE SCHEMA tower_api_key; {}; {}; UPDATE tower_api_key.layout SET number = 2;
         INSERT INTO tower_api_key.accounts VALUES ('a');
         INSERT INTO tower_api_key.secrets VALUES
             ('\\x{}', '\\x{digest}', '{}', 'a', 'A name', NULL, '', '', 5, NULL, NULL, 7, NULL, NULL),
             ('\\x{}', NULL, '{}', 'a', 'Left', NULL, '', '', 5, NULL, NULL, NULL, 6, 'deleted')",
        include_str!("../../src/store/postgres/layout-1.sql"),
        include_str!("../../src/store/postgres/layout-2.sql"),
        live.fingerprint(),
        live.id,
        left.fingerprint(),
        left.id,
    );
    sql(&url, &statements).await;
    let store = connect(&url).await.unwrap();
    assert_eq!(one::<i32>(&url, "SELECT number FROM tower_api_key.layout").await, 5);
    bound_keys_are_kept_beside_what_was_there(&store).await;
    uses_are_kept_of_what_was_there(&store, &live, &left).await;
}

const THIRD_LAYOUT: &str = concat!(
    "CREATE SCHEMA tower_api_key; ",
    include_str!("../../src/store/postgres/layout-1.sql"),
    include_str!("../../src/store/postgres/layout-2.sql"),
    include_str!("../../src/store/postgres/layout-3.sql"),
    "UPDATE tower_api_key.layout SET number = 3",
);

#[tokio::test]
async fn tables_of_the_third_layout_get_the_indexes_of_new_ones() {
    let Some(server) = Postgres::shared() else { return };
    let new = server.fresh_database().await;
    filled(&new).await;
    let indexes = "SELECT string_agg(indexdef, '; ' ORDER BY indexname) FROM pg_indexes
                   WHERE schemaname = 'tower_api_key'";
    let indexes_of_new: String = one(&new, indexes).await;
    assert!(indexes_of_new.contains("live_secrets_of_account"), "{indexes_of_new}");
    assert!(!indexes_of_new.contains("INDEX secrets_of_account"), "{indexes_of_new}");
    for is_made_by_hand in [false, true] {
        let url = server.fresh_database().await;
        sql(&url, THIRD_LAYOUT).await;
        if is_made_by_hand {
            let made = include_str!("../../src/store/postgres/layout-4.sql");
            for statement in made.replace("IF NOT EXISTS", "CONCURRENTLY").split_inclusive(';') {
                sql(&url, statement).await;
            }
        }
        filled(&url).await;
        assert_eq!(one::<String>(&url, indexes).await, indexes_of_new, "{is_made_by_hand}");
    }
}

/// What has waited for a table to itself stands before all who come after it, as a backup goes on reading.
#[tokio::test]
async fn lookups_go_on_while_a_new_version_waits_for_the_tables() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    sql(&url, THIRD_LAYOUT).await;
    let read = "SELECT count(*) FROM tower_api_key.secrets";
    let mut backup = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut backup).await.unwrap();
    sqlx::raw_sql(read).execute(&mut backup).await.unwrap();

    let connecting = tokio::spawn({
        let url = url.clone();
        async move { connect(&url).await }
    });
    let mut lookups = PgConnection::connect(&url).await.unwrap();
    // The default limit of a lookup.
    sqlx::raw_sql("SET statement_timeout = 500").execute(&mut lookups).await.unwrap();
    // The index that is dropped in the end is in the backup's way, those before it are not.
    let waits = "SELECT number > 3 FROM tower_api_key.layout";
    while !one::<bool>(&url, waits).await {
        sqlx::raw_sql(read).execute(&mut lookups).await.unwrap();
    }
    for _ in 0..200 {
        sqlx::raw_sql(read).execute(&mut lookups).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!connecting.is_finished(), "it waits");
    sqlx::raw_sql("COMMIT").execute(&mut backup).await.unwrap();
    connecting.await.unwrap().unwrap();
    assert_eq!(one::<i32>(&url, "SELECT number FROM tower_api_key.layout").await, 5);
}

/// How many secrets have been read in this database, by whatever way.
async fn read_so_far(server: &Postgres, name: &str) -> i64 {
    let (_, backends) = sessions_and_backends(server, name).await;
    assert_eq!(backends, 0, "each says at its end what it has read");
    let read = "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'secrets')
                     + (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'secrets')";
    one(&server.url(name), read).await
}

/// What ended stays for good, and each write is one that others may wait for.
#[tokio::test]
async fn what_ended_is_passed_over_by_no_write_no_list_and_no_usage() {
    let Some(server) = Postgres::shared() else { return };
    let name = server.new_database().await;
    let url = server.url(&name);
    let (owner, records) = filled(&url).await;
    let left = "INSERT INTO tower_api_key.secrets
                    (fingerprint, key_id, account, name, scopes, hint, created_at, ended_at, ended_by)
                SELECT decode(lpad(to_hex(n), 16, '0'), 'hex'), 'key_' || n, 'a', 'Left', '', '', n, n, 'deleted'
                FROM generate_series(1, 20000) AS n;
                INSERT INTO tower_api_key.secrets
                    (fingerprint, digest, key_id, account, name, scopes, hint, created_at)
                SELECT substring(digest FOR 8), digest, 'key_x' || n, 'b' || n / 20, 'Other', '', '', n
                FROM (SELECT n, sha256(n::text::bytea) AS digest FROM generate_series(1, 20000) AS n) AS others;
                ANALYZE tower_api_key.secrets";
    sql(&url, left).await;
    let before = read_so_far(server, &name).await;
    let limit = Duration::from_secs(20);
    let store = PostgresOptions::new(&url).unwrap().with_time_limit(limit).connect().await.unwrap();
    let [id, other] = [&records[0].id, &records[1].id];
    let new = || Arc::new(record(&owner, time(1)));
    assert_eq!(store.insert(new(), 25).await.unwrap(), Written::Done(()));
    assert_eq!(store.insert_first(new()).await.unwrap(), Written::Refused);
    let renamed = store.rename(&owner, id, "Another".parse().unwrap()).await.unwrap();
    assert!(matches!(renamed, Written::Done(_)));
    let secret = NewSecret::new(digest("new"), records[0].hint.clone());
    let replaced = store.replace(&owner, id, secret, time(1)).await.unwrap();
    assert!(matches!(replaced, Written::Done(_)));
    let (old, rehashed) = (digest("new").fingerprint(), digest("rehashed"));
    let rehashed = store.rehash(&owner, id, old, rehashed, time(1)).await.unwrap();
    assert!(matches!(rehashed, Written::Done(_)));
    store.mark_used(&[Use::new(old, time(1))]).await.unwrap();
    assert_eq!(store.usage(&owner, Day::from_number(0)).await.unwrap().len(), 1);
    assert_eq!(store.delete(&owner, id, time(1)).await.unwrap(), Written::Done(()));
    let (successor, grace) = (new(), Some(time(9)));
    let rotated = store.rotate(&owner, other, Arc::clone(&successor), grace, 25).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    let rotated = store.rotate(&owner, &successor.id, new(), None, 25).await.unwrap();
    assert_eq!(rotated, Written::Done(()));
    assert_eq!(store.list(&owner).await.unwrap().len(), 4);
    assert_eq!(store.delete_all(&owner, time(2)).await.unwrap(), 4);
    store.close();
    let read = read_so_far(server, &name).await - before;
    assert!(read < 1_000, "{read} rows for an account with 20,000 tombstones");
}

#[tokio::test]
async fn another_application_s_schema_is_refused_and_left_alone() {
    let Some(server) = Postgres::shared() else { return };
    for theirs in [
        "CREATE SCHEMA tower_api_key; CREATE TABLE tower_api_key.secrets (name TEXT)",
        "CREATE SCHEMA tower_api_key; CREATE TABLE tower_api_key.layout (number INTEGER)",
    ] {
        let url = server.fresh_database().await;
        sql(&url, theirs).await;
        let refused = connect(&url).await.unwrap_err();
        assert!(matches!(refused, StoreError::Foreign { .. }), "{theirs}: {refused:?}");
        let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'tower_api_key'::regnamespace AND relkind = 'r'";
        assert_eq!(one::<i64>(&url, tables).await, 1);
    }
}

#[tokio::test]
async fn a_role_with_the_rights_that_are_documented_is_enough() {
    let Some(server) = Postgres::shared() else { return };
    let name = server.new_database().await;
    let admin = server.url(&name);
    sql(&admin, &format!("CREATE ROLE weak_{name} LOGIN; CREATE SCHEMA tower_api_key")).await;
    let weak = admin.replace("postgres@", &format!("weak_{name}@"));
    // Without rights: an error, and nothing is half made.
    assert!(connect(&weak).await.is_err());
    // An empty schema of its own.
    sql(&admin, &format!("ALTER SCHEMA tower_api_key OWNER TO weak_{name}")).await;
    connect(&weak).await.unwrap().close();
    // Or tables that somebody else has made.
    sql(
        &admin,
        &format!(
            "DROP SCHEMA tower_api_key CASCADE; CREATE ROLE other_{name} LOGIN;
             GRANT CREATE ON DATABASE {name} TO other_{name}"
        ),
    )
    .await;
    let other = admin.replace("postgres@", &format!("other_{name}@"));
    connect(&other).await.unwrap().close();
    sql(
        &admin,
        &format!(
            "GRANT USAGE ON SCHEMA tower_api_key TO weak_{name};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tower_api_key TO weak_{name}"
        ),
    )
    .await;
    let store = connect(&weak).await.unwrap();
    let (manager, key) = crate::support::with_key(store.clone()).await;
    let owner = account("admin@example.com");
    let used = Use::new(digest(&key).fingerprint(), time(0));
    store.mark_used(&[used]).await.unwrap();
    assert_eq!(store.usage(&owner, Day::of(time(0))).await.unwrap().len(), 1);
    assert_eq!(manager.delete_all(&account("admin@example.com")).await.unwrap(), 1);
}

#[tokio::test]
async fn a_damaged_row_is_passed_over_loudly_and_never_accepted() {
    let Some(server) = Postgres::shared() else { return };
    for damage in [
        "digest = '\\x00'",
        "digest = decode(repeat('00', 32), 'hex')",
        "name = ''",
        "name = E'a\\nb'",
        "account = ''",
        "key_id = '../etc'",
        "created_at = -1",
        "expires_at = -9223372036854775808",
        "environment = 'NOT ONE'",
        "scopes = 'a  b'",
        "sources = 'here'",
        "sources = '0.0.0.0/0'",
        "last_used_from = 'here'",
        "last_used_agent = '\\x00'",
        "ended_at = 5, ended_by = 'magic', digest = NULL",
        "ended_at = NULL, ended_by = NULL, digest = NULL",
    ] {
        let url = server.fresh_database().await;
        let (owner, records) = filled(&url).await;
        let unchecked = "DO $$ DECLARE name TEXT; BEGIN
            FOR name IN SELECT conname FROM pg_constraint WHERE conrelid = 'tower_api_key.secrets'::regclass AND contype = 'c'
            LOOP EXECUTE format('ALTER TABLE tower_api_key.secrets DROP CONSTRAINT %I', name); END LOOP; END $$";
        sql(&url, unchecked).await;
        let id = &records[1].id;
        sql(&url, &format!("UPDATE tower_api_key.secrets SET {damage} WHERE key_id = '{id}'"))
            .await;

        let (log, _guard) = Log::capture();
        let store = connect(&url).await.unwrap();
        let found = store.find(records[1].fingerprint());
        // On this thread, where the log is listened to: lookups run in tasks of their own.
        let found = found.await.unwrap();
        assert!(!matches!(found, Some(Entry::Live(_))), "{damage}");
        assert_eq!(log.lines("a damaged row was passed over").len(), 1, "{damage}");
        let listed = store.list(&owner).await.unwrap();
        assert!(listed.iter().all(|record| record.id != *id), "{damage}");
        assert!(store.get(&owner, id).await.unwrap().is_none(), "{damage}");
        let found = store.find(records[0].fingerprint()).await.unwrap();
        assert!(matches!(found, Some(Entry::Live(_))), "the others are as they were: {damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_whatever_the_database_s_isolation_is() {
    let Some(server) = Postgres::shared() else { return };
    for isolation in ["serializable", "repeatable read", "read committed"] {
        let name = server.new_database().await;
        let url = server.url(&name);
        let set =
            format!("ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'");
        sql(&url, &set).await;
        assert_eq!(soon(race_to_the_cap(&url)).await, 25, "{isolation}");
    }
}

#[tokio::test]
async fn every_write_is_durable_whatever_the_database_s_setting_is() {
    let Some(server) = Postgres::shared() else { return };
    for (setting, expected) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_write", "on"),
        ("on", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        let name = server.new_database().await;
        let url = server.url(&name);
        connect(&url).await.unwrap().close();
        sql(
            &url,
            &format!(
                "ALTER DATABASE {name} SET synchronous_commit = {setting};
                 CREATE TABLE seen (setting TEXT);
                 CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
                 CREATE TRIGGER see AFTER INSERT ON tower_api_key.changes EXECUTE FUNCTION see()"
            ),
        )
        .await;
        let store = connect(&url).await.unwrap();
        let owner = account("a");
        let made = Arc::new(record(&owner, time(0)));
        assert_eq!(store.insert(Arc::clone(&made), 25).await.unwrap(), Written::Done(()));
        assert_eq!(store.delete(&owner, &made.id, time(1)).await.unwrap(), Written::Done(()));
        let seen = sql(&url, "SELECT setting FROM seen").await;
        let seen: Vec<String> = seen.iter().map(|row| row.try_get(0).unwrap()).collect();
        assert_eq!(seen, [expected, expected], "{setting}");
    }
}

#[tokio::test]
async fn a_standby_is_refused() {
    let Some(server) = Postgres::start() else { return };
    let url = server.fresh_database().await;
    filled(&url).await;
    server.become_standby();
    let refused = connect(&url).await.unwrap_err();
    assert!(format!("{refused:?}").contains("standby"), "{refused:?}");
}

#[tokio::test]
async fn tls_is_as_strict_as_the_url_says_and_the_password_stays_in_it() {
    let Some(server) = Postgres::options().tls().password().start() else { return };
    let url = server.fresh_database().await;
    // A handshake takes its time in a program without optimisation.
    let options = PostgresOptions::new(&url).unwrap().with_time_limit(Duration::from_secs(10));
    let store = options.connect().await.unwrap();
    let (manager, _) = crate::support::with_key(store.clone()).await;
    assert_eq!(manager.list(&account("admin@example.com")).await.unwrap().len(), 1);
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend'";
    assert!(one::<bool>(&url, encrypted).await);

    let without_root = url.split("&sslrootcert").next().unwrap().to_owned();
    let plain = url.replace("sslmode=verify-full", "sslmode=disable");
    let wrong_password = url.replace("%20", "%21");
    for refused in [without_root.clone(), plain, wrong_password] {
        let error = connect(&refused).await.unwrap_err();
        let said = format!("{error:?} {error}");
        assert!(!said.contains("pass/word"), "{said}");
    }
    let certificate = std::fs::read(server.certificate()).unwrap();
    let options = PostgresOptions::new(&without_root).unwrap().with_root_certificate(&certificate);
    assert!(!format!("{options:?} {store:?}").contains("pass/word"), "{options:?}");
    options.connect().await.unwrap().close();
    let error = PostgresOptions::new("postgres://me:pass word@:x/").unwrap_err();
    assert!(!format!("{error:?}").contains("pass word"), "{error:?}");
}

/// Holds the lock of an account's row, as a transaction that hangs would.
async fn hold(url: &str, owner: &AccountId) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let lock =
        format!("BEGIN; SELECT 1 FROM tower_api_key.accounts WHERE account = '{owner}' FOR UPDATE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn management_that_waits_ends_at_the_limit_and_holds_up_no_verification() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let (owner, records) = filled(&url).await;
    let limit = Duration::from_millis(1_500);
    let store = PostgresOptions::new(&url).unwrap().with_time_limit(limit).connect().await.unwrap();
    let held = hold(&url, &owner).await;
    let started = Instant::now();
    // More than there are connections for management.
    let deletions: Vec<_> = (0..12)
        .map(|_| {
            let (store, owner, id) = (store.clone(), owner.clone(), records[0].id.clone());
            tokio::spawn(async move { store.delete(&owner, &id, time(9)).await })
        })
        .collect();
    let mut lookups = 0;
    while started.elapsed() < limit {
        let found = store.find(records[0].fingerprint()).await.unwrap();
        assert!(matches!(found, Some(Entry::Live(_))));
        lookups += 1;
    }
    assert!(lookups > 20, "{lookups} lookups");
    for deletion in deletions {
        let refused = deletion.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Timeout { store: "postgres", .. }), "{refused:?}");
    }
    assert!(started.elapsed() < 3 * limit, "{:?}", started.elapsed());
    // The server lets go of what its clients no longer wait for, while the lock is still held.
    tokio::time::sleep(limit).await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(one::<i64>(&url, waiting).await, 0);
    held.close().await.unwrap();
    assert_eq!(store.delete(&owner, &records[0].id, time(9)).await.unwrap(), Written::Done(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_that_wait_hold_up_no_management() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let (owner, records) = filled(&url).await;
    let options = PostgresOptions::new(&url).unwrap().with_time_limit(Duration::from_secs(8));
    let store = options.connect().await.unwrap();
    // Every connection for verification waits for this lock; the one of management needs another table.
    let mut held = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE tower_api_key.secrets IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut held).await.unwrap();
    let lookups: Vec<_> =
        (0..64).map(|_| tokio::spawn(store.find(records[0].fingerprint()))).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let first = store.insert_first(Arc::new(record(&owner, time(0)))).await.unwrap();
    assert_eq!(first, Written::Refused);
    assert!(lookups.iter().all(|lookup| !lookup.is_finished()), "they wait");
    for lookup in lookups {
        let refused = lookup.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::Timeout { .. }), "{refused:?}");
    }
    held.close().await.unwrap();
    assert!(store.find(records[0].fingerprint()).await.unwrap().is_some());
    assert_eq!(store.list(&owner).await.unwrap().len(), 3);
}

/// How often anybody has connected to this database, and how many backends work for it now.
async fn sessions_and_backends(server: &Postgres, name: &str) -> (i64, i64) {
    // Backends note their end with a delay.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let url = server.url("postgres");
    let sessions = format!("SELECT sessions FROM pg_stat_database WHERE datname = '{name}'");
    let backends = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND backend_type = 'client backend'"
    );
    (one(&url, &sessions).await, one(&url, &backends).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_nobody_waits_for_any_more_leave_the_server_alone() {
    let Some(server) = Postgres::shared() else { return };
    let name = server.new_database().await;
    let url = server.url(&name);
    let (owner, records) = filled(&url).await;
    let limit = Duration::from_millis(100);
    let store = PostgresOptions::new(&url).unwrap().with_time_limit(limit).connect().await.unwrap();
    let mut held = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE tower_api_key.secrets IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut held).await.unwrap();
    for _ in 0..20 {
        let (found, listed) =
            tokio::join!(store.find(records[0].fingerprint()), store.list(&owner));
        assert!(found.is_err() && listed.is_err());
    }
    let (_, backends) = sessions_and_backends(server, &name).await;
    assert!(backends <= 3, "{backends} backends, with the one that holds the lock");
    held.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_asked_too_much_keeps_its_connections() {
    let Some(server) = Postgres::shared() else { return };
    let name = server.new_database().await;
    let url = server.url(&name);
    let (_, records) = filled(&url).await;
    let options = PostgresOptions::new(&url).unwrap().with_verification_connections(2);
    let store = options.with_time_limit(Duration::from_millis(400)).connect().await.unwrap();
    store.find(records[0].fingerprint()).await.unwrap();
    let (before, _) = sessions_and_backends(server, &name).await;
    let started = Instant::now();
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let (store, fingerprint) = (store.clone(), records[0].fingerprint());
            tokio::spawn(async move {
                let mut answered = 0;
                while started.elapsed() < Duration::from_secs(2) {
                    answered += usize::from(store.find(fingerprint).await.is_ok());
                }
                answered
            })
        })
        .collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    let (after, _) = sessions_and_backends(server, &name).await;
    let opened = usize::try_from(after - before).unwrap_or_default();
    println!("{answered} answered, {opened} connections opened meanwhile");
    // A slow machine answers less, and gives more up.
    assert!(opened < 10.max(answered / 10), "{opened} connections for {answered} answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_is_asked_now_and_then() {
    let Some(server) = Postgres::shared() else { return };
    let wire = Wire::to(server.port()).await;
    let name = server.new_database().await;
    let url = server.url_by(wire.port(), &name);
    let store = PostgresStore::connect(&url).await.unwrap();
    wire.cut().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", wire.port())).await.unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let hangs_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let started = Instant::now();
    let mut refused = 0;
    while started.elapsed() < Duration::from_secs(1) {
        let fingerprint = record(&account("a"), time(0)).fingerprint();
        assert!(matches!(store.find(fingerprint).await, Err(StoreError::Unavailable { .. })));
        refused += 1;
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!((2..=21).contains(&asked) && refused > 100, "{asked} of {refused}");
    hangs_up.abort();
}

#[tokio::test]
async fn a_time_limit_may_be_as_long_as_one_likes() {
    let Some(server) = Postgres::shared() else { return };
    let options = PostgresOptions::new(&server.fresh_database().await).unwrap();
    let store = options.with_time_limit(Duration::MAX).connect().await.unwrap();
    let key = Arc::new(record(&account("a"), time(0)));
    assert_eq!(store.insert(Arc::clone(&key), 25).await.unwrap(), Written::Done(()));
    assert!(store.find(key.fingerprint()).await.unwrap().is_some());
}

#[tokio::test]
async fn as_many_uses_as_one_likes_are_noted_in_one_call() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let (owner, records) = filled(&url).await;
    let limit = Duration::from_millis(400);
    let store = PostgresOptions::new(&url).unwrap().with_time_limit(limit).connect().await.unwrap();
    let stranger = |_| Use::new(record(&owner, time(0)).fingerprint(), time(50));
    let mut uses: Vec<_> = (0..50_000).map(stranger).collect();
    uses.push(Use::new(records[0].fingerprint(), time(50)));
    store.mark_used(&uses).await.unwrap();
    let shown = store.get(&owner, &records[0].id).await.unwrap().unwrap();
    assert_eq!(shown.last_used_at, Some(time(50)));
}

#[test]
fn a_parameter_that_is_not_understood_is_refused_by_its_name() {
    let (log, _guard) = Log::capture();
    for url in [
        "postgres://me@db/app?sslmode=require&sslpassword=hunter2",
        "postgres://me@db/app?sslpassword=hunter2#fragment",
        "postgres://me@db?sslmode=require&sslpassword=hunter2&sslmode=require",
    ] {
        let refused = format!("{:?}", PostgresOptions::new(url).unwrap_err());
        assert!(refused.contains("sslpassword") && !refused.contains("hunter2"), "{refused}");
    }
    assert!(!log.text().contains("hunter2"));
    for url in ["postgres://db/app?", "postgres://db/app?sslmode=require&&application_name=me#a?b"]
    {
        PostgresOptions::new(url).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_while_idle_are_replaced_unnoticed() {
    let Some(server) = Postgres::shared() else { return };
    let name = server.new_database().await;
    let url = server.url(&name);
    let (owner, records) = filled(&url).await;
    // Twelve of them are opened at once, on a machine that is busy with other tests.
    let options = PostgresOptions::new(&url).unwrap().with_time_limit(Duration::from_secs(20));
    let store = options.connect().await.unwrap();
    for round in 0..3 {
        // Several connections of each kind, idle.
        let calls: Vec<_> = (0..32)
            .map(|_| {
                let (store, owner, key) = (store.clone(), owner.clone(), records[0].fingerprint());
                tokio::spawn(async move {
                    store.list(&owner).await.unwrap();
                    store.find(key).await.unwrap().unwrap();
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let others = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        );
        assert!(one::<i64>(&url, &others).await > 4);
        assert!(store.find(records[0].fingerprint()).await.unwrap().is_some());
        let made = Arc::new(record(&owner, time(10 + round)));
        assert_eq!(store.insert(made, 25).await.unwrap(), Written::Done(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_behind_a_pooler_that_changes_connections_between_transactions() {
    let Some(server) = Postgres::shared() else { return };
    let Some(pooler) = PgBouncer::start(server) else { return };
    let name = server.new_database().await;
    assert_eq!(soon(race_to_the_cap(&pooler.url(&name))).await, 25);
    // No setting of a transaction stayed with the connection.
    let url = pooler.url(&name);
    for _ in 0..20 {
        assert_eq!(one::<String>(&url, "SHOW statement_timeout").await, "0");
    }
}

#[tokio::test]
async fn no_key_is_in_the_database_and_no_digest_of_a_deleted_one() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.fresh_database().await;
    let store = connect(&url).await.unwrap();
    let manager = KeyManager::new(store, "acme".parse().unwrap());
    let issued = manager.create(&account("a"), named("Production CRM")).await.unwrap();
    let (record, key) = (issued.record().clone(), text(issued));
    let everything =
        "SELECT coalesce(string_agg(secrets::text, ' '), '') FROM tower_api_key.secrets";
    let digest = record
        .digest
        .as_bytes()
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let before: String = one(&url, everything).await;
    assert!(before.contains(&digest), "this test sees what is in the table");
    assert!(!before.contains(&key[10..40]));
    manager.delete(&account("a"), &record.id).await.unwrap();
    let after: String = one(&url, everything).await;
    assert!(!after.contains(&digest[16..]) && after.contains("Production CRM"), "{after}");
}

#[tokio::test]
async fn a_way_to_another_machine_that_is_not_verified_is_warned_of_without_the_password() {
    let (log, _guard) = Log::capture();
    for (url, warnings) in [
        ("postgres://me:hunter2@nowhere.invalid/keys?sslmode=require", 1),
        ("postgres://me:hunter2@127.0.0.1:1/keys", 1),
        ("postgres://me:hunter2@nowhere.invalid/keys?sslmode=verify-full", 1),
    ] {
        assert!(PostgresOptions::new(url).unwrap().connect().await.is_err());
        let said = log.lines("the store is on another machine");
        assert_eq!(said.len(), warnings, "{url}: {}", log.text());
        assert!(said[0].contains("WARN") && said[0].contains("nowhere.invalid"), "{said:?}");
    }
    assert!(!log.text().contains("hunter2"), "{}", log.text());
}
