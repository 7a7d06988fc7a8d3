//! The store that was named.

use std::path::Path;
use std::sync::Arc;

use tower_api_key::{KeyRegistry, PostgresStore, RedisStore, SqliteStore};

use crate::commands::Failure;

/// Opens it. A file that is not there is made only where keys are. No error repeats the URL, which may
/// have a password in it.
pub(crate) async fn open(
    url: Option<String>,
    makes_keys: bool,
) -> Result<Arc<dyn KeyRegistry>, Failure> {
    let url = url.ok_or("name the store: --store, or the variable API_KEY_STORE")?;
    Ok(match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            if !makes_keys && !path.exists() {
                return Err(format!("there is no file {}", path.display()).into());
            }
            Arc::new(SqliteStore::open(path).await?)
        }
        Some(("postgres" | "postgresql", _)) => Arc::new(PostgresStore::connect(&url).await?),
        Some(("redis" | "rediss", _)) => Arc::new(RedisStore::connect(url).await?),
        Some(("memory", _)) => {
            return Err("keys in the memory of this program would be gone at its end".into());
        }
        _ => return Err("the store is neither sqlite:PATH nor postgres://… nor redis://…".into()),
    })
}
