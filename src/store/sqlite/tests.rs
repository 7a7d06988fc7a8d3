use super::SqliteStore;

/// What a setting is on the connections for verification and for management.
async fn setting<const N: usize>(store: &SqliteStore, names: [&'static str; N]) -> [[i64; 2]; N] {
    let mut values = [[-1; 2]; N];
    for (name, value) in names.into_iter().zip(&mut values) {
        for (pool, value) in [&store.verification, &store.management].into_iter().zip(value) {
            *value = sqlx::query_scalar(name).fetch_one(pool).await.unwrap();
        }
    }
    values
}

#[tokio::test]
async fn the_settings_are_those_that_keep_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).await.unwrap();
    for pool in [&store.verification, &store.management] {
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
        assert_eq!(journal, "wal");
    }
    let settings = ["PRAGMA synchronous", "PRAGMA busy_timeout", "PRAGMA query_only"];
    let [synchronous, busy_timeout, query_only] = setting(&store, settings).await;
    assert_eq!(synchronous, [2, 2], "2 is FULL");
    assert_eq!(busy_timeout, [5000, 5000]);
    assert_eq!(query_only, [1, 0], "verification cannot write, management can");
}
