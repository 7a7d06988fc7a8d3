//! The store that was named.

use std::path::Path;
use std::sync::Arc;

use tower_api_key::{KeyRegistry, PostgresStore, RedisStore, SqliteStore};

use crate::arguments::StoreUrl;
use crate::commands::Failure;

/// Opens it. A file that is not there is made only where keys are.
pub(crate) async fn open(
    url: Option<StoreUrl>,
    makes_keys: bool,
) -> Result<Arc<dyn KeyRegistry>, Failure> {
    let url = url.ok_or("name the store: --store, or the variable API_KEY_STORE")?;
    Ok(match url {
        StoreUrl::Sqlite(path) => {
            if !makes_keys && !Path::new(&path).exists() {
                return Err(format!("there is no file {}", path.display()).into());
            }
            Arc::new(SqliteStore::open(path).await?)
        }
        StoreUrl::Postgres(url) => Arc::new(PostgresStore::connect(&url).await?),
        StoreUrl::Redis(url) => Arc::new(RedisStore::connect(url).await?),
    })
}
