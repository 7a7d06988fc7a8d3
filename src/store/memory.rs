//! Keys in this process's memory. Knows no other store, no verification and no HTTP.
//!
//! For tests, examples and services whose keys come from elsewhere at start: everything is gone
//! when the process ends.

mod books;
mod index;
mod registry;
mod usage;
/// What takes another form where loom tries every order of what threads do.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}
#[cfg(test)]
mod tests;

pub use self::registry::MemoryStore;
