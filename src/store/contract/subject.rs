//! The store that is examined, and the runtime that it is examined in. Knows no promise.

use std::any::{Any, type_name_of_val};
use std::fmt;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::store::KeyRegistry;

/// How long a promise may take before the store is said to hang.
const LIMIT: Duration = Duration::from_mins(2);

/// Races need threads, also on a machine with one core.
const THREADS: usize = 4;

/// A store to examine, empty and written to by nobody else, with what must live as long as it.
pub struct Subject {
    store: Arc<dyn KeyRegistry>,
    kept: Vec<Box<dyn Any + Send>>,
}

impl Subject {
    /// An empty store.
    pub fn new(store: impl KeyRegistry) -> Self {
        Self { store: Arc::new(store), kept: Vec::new() }
    }

    /// Drops something only after the store: its temporary folder, its server.
    #[must_use]
    pub fn keeping(mut self, kept: impl Send + 'static) -> Self {
        self.kept.push(Box::new(kept));
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// Opens a store and asks one promise of it, in a tokio runtime of several threads that ends with
/// the call. `open` gives a [`Subject`], or an `Option` of one: with `None` nothing is asked.
///
/// ```
/// use tower_api_key::MemoryStore;
/// use tower_api_key::store::contract::{Subject, check, uses_go_only_forward};
///
/// check(async || Subject::new(MemoryStore::new()), uses_go_only_forward);
/// ```
///
/// # Panics
///
/// When the promise is broken, or not over after two minutes.
pub fn check<S, P>(
    open: impl AsyncFnOnce() -> S,
    promise: impl FnOnce(Arc<dyn KeyRegistry>) -> P + 'static,
) where
    S: Into<Option<Subject>>,
    P: Future<Output = ()> + Send + 'static,
{
    let name = type_name_of_val(&promise);
    let opened = Box::pin(async { open().await.into() });
    ask(name, opened, Box::new(move |store| Box::pin(promise(store))));
}

/// A store on its way.
#[doc(hidden)]
pub type Opening = Pin<Box<dyn Future<Output = Option<Subject>>>>;

#[doc(hidden)]
pub fn opening<S: Into<Option<Subject>>>(open: impl AsyncFnOnce() -> S + 'static) -> Opening {
    Box::pin(async { open().await.into() })
}

type Promise = Box<dyn FnOnce(Arc<dyn KeyRegistry>) -> Asked>;
type Asked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Not generic: there is one for all promises and stores.
fn ask(name: &str, open: Pin<Box<dyn Future<Output = Option<Subject>> + '_>>, promise: Promise) {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let Some(subject) = runtime.block_on(open) else {
        eprintln!("{name} was left out: there is no store to ask");
        return;
    };
    let Subject { store, kept } = subject;
    // In a task, so that a store that blocks its thread does not stop the clock.
    let asked = runtime.spawn(promise(store));
    match runtime.block_on(async { tokio::time::timeout(LIMIT, asked).await }) {
        Ok(Ok(())) => {
            let _inside = runtime.enter();
            drop(kept);
        }
        Ok(Err(broken)) => resume_unwind(broken.into_panic()),
        Err(_) => {
            runtime.shutdown_background();
            panic!("{name} is not over after {LIMIT:?}: the store hangs");
        }
    }
}
