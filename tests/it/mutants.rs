//! Of the tests from outside those that are about the code that is mutated, in a binary that is built much
//! faster than `it`. Only `cargo mutants` runs it: see tests/mutants/README.md.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "in a test, a panic is the report; and not all of what is shared is used here"
)]

mod asks;
mod axum;
mod decision;
mod ends;
mod hashing;
mod leaks;
mod manage_api;
mod manager;
mod support;
mod usage;
mod verifier;

mod contract_broken {
    pub(crate) mod faulty;
}

mod contract {
    use std::sync::Arc;

    use tower_api_key::store::contract::{
        Subject, old_and_new_secrets_never_both_live, old_changes_are_known_whole_or_forgotten,
        the_roll_is_kept_between_stores,
    };
    use tower_api_key::{MemoryStore, SharedRegistry, store::contract, store_contract};

    store_contract!(memory, async || Subject::new(MemoryStore::new()));

    #[test]
    fn memory_replaces_in_one_step() {
        let memory = async || Subject::new(MemoryStore::new());
        contract::check(memory, old_and_new_secrets_never_both_live);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_keeps_the_roll() {
        let store = MemoryStore::new();
        let shared = |_| -> Arc<dyn SharedRegistry> { Arc::new(store.clone()) };
        the_roll_is_kept_between_stores(&(0..3).map(shared).collect::<Vec<_>>()).await;
    }

    #[tokio::test]
    async fn memory_forgets_old_changes() {
        old_changes_are_known_whole_or_forgotten(Arc::new(MemoryStore::new())).await;
    }
}
