//! What every store promises, as code: each promise of [`KeyStore`] and [`KeyRegistry`] is a function
//! that panics when a store breaks it. Knows no store but through the traits, and no HTTP.
//!
//! A store of your own runs all of them from its own tests with one line, each as a `#[test]` against
//! a fresh store, and needs nothing for it but this crate with its feature `testing`:
//!
//! ```
//! use tower_api_key::store::contract::Subject;
//! # use std::{io, path::PathBuf};
//! # struct FileStore;
//! # impl FileStore {
//! #     async fn open(_: PathBuf) -> io::Result<tower_api_key::MemoryStore> { Ok(Default::default()) }
//! # }
//!
//! /// A new, empty store.
//! async fn empty() -> Subject {
//!     let folder = tempfile::tempdir().unwrap();
//!     let store = FileStore::open(folder.path().join("keys")).await.unwrap();
//!     Subject::new(store).keeping(folder)
//! }
//!
//! tower_api_key::store_contract!(file_store, empty);
//! # fn main() {
//! #     use tower_api_key::store::contract::{check, the_cap_holds_under_races};
//! #     check(empty, the_cap_holds_under_races);
//! # }
//! ```
//!
//! `cargo test file_store` then runs `file_store::the_cap_holds_under_races` and all the others. To
//! run one promise by itself, or all but some, call [`check`] from tests of your own; [`PROMISES`] has
//! their names. A store that several processes can share should also be run through [`Handles`], and
//! through the functions that end in `_between_stores`, with connections of their own. A decorator of a
//! store, such as a cache, is a store: run it around one.
//!
//! Promises that are about races may miss a fault now and then. None of them objects to a store
//! without fault, and none asks for the system's time.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a broken promise is reported by a panic, as in any test"
)]

mod cap;
mod collisions;
mod ending;
mod finding;
mod first;
mod following;
mod given;
mod handles;
mod leaving;
mod races;
mod rehashing;
mod renewing;
mod roll;
mod rotating;
mod subject;
mod taken;
mod texts;
mod usage;
mod uses;
mod versions;

pub use self::cap::the_cap_holds_between_stores;
pub use self::ending::a_delete_is_seen_between_stores;
pub use self::first::the_first_key_is_made_once_between_stores;
pub use self::following::changes_can_be_followed_between_stores;
pub use self::handles::Handles;
pub use self::renewing::old_and_new_secrets_never_both_live;
pub use self::roll::the_roll_is_kept_between_stores;
pub use self::subject::{Opening, Subject, check, opening};
pub use self::versions::old_changes_are_known_whole_or_forgotten;
#[cfg(doc)]
use super::{KeyRegistry, KeyStore};

/// Makes the one list of promises into the names that are public here and into the tests of
/// [`store_contract!`]. A promise that is not in the list is dead code, which the compiler reports.
macro_rules! promises {
    ($dollar:tt $($theme:ident { $($promise:ident)* })*) => {
        $(pub use self::$theme::{$($promise),*};)*

        /// The names of all promises that [`store_contract!`](crate::store_contract) runs.
        pub const PROMISES: &[&str] = &[$($(stringify!($promise),)*)*];

        /// Runs every promise of a store as a `#[test]`, each against a store of its own:
        /// `store_contract!(name_of_the_module, open)`, where `open` is an async function or closure
        /// without arguments that gives a [`Subject`](crate::store::contract::Subject) whose store is
        /// empty. Stands where an item stands, outside of functions. There is an example in
        /// [`store::contract`](crate::store::contract).
        ///
        /// `open` may also give an `Option` of a subject: `None`, say because there is no server on
        /// this machine, leaves the promises out.
        #[macro_export]
        #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
        macro_rules! store_contract {
            ($dollar name:ident, $dollar open:expr $dollar(,)?) => {
                mod $dollar name {
                    #[allow(unused_imports, reason = "whatever opens the store may be named here")]
                    use super::*;

                    // Compiled once, and not for every promise again.
                    fn open() -> $crate::store::contract::Opening {
                        $crate::store::contract::opening($dollar open)
                    }

                    $($(
                        #[test]
                        fn $promise() {
                            $crate::store::contract::check(open, $crate::store::contract::$promise);
                        }
                    )*)*
                }
            };
        }
    };
}

promises! { $
    finding {
        what_was_inserted_is_found_listed_and_got
        nothing_is_found_where_nothing_is
        the_list_is_in_order_of_age
        another_account_s_key_is_not_found
        every_write_that_returned_is_seen
        a_new_key_is_never_seen_half_made
    }
    cap {
        the_cap_holds_one_after_the_other
        the_cap_holds_under_races
        expired_and_ended_keys_do_not_count
    }
    first {
        the_first_key_is_made_once_under_races
        the_first_key_is_not_made_again_after_deletion
        the_first_key_is_the_first_among_other_writes
    }
    taken {
        a_taken_fingerprint_is_said_and_nothing_is_stored
        a_taken_id_is_said_and_nothing_is_stored
        of_many_keys_with_one_fingerprint_one_is_filed
        of_many_keys_with_one_id_one_is_filed
    }
    collisions {
        a_collision_is_met_with_another_key
    }
    renewing {
        renaming_keeps_everything_else
        replacing_ends_the_old_secret_and_keeps_everything_else
        replacing_by_a_taken_secret_changes_nothing
        of_many_new_secrets_one_lives
    }
    rehashing {
        rehashing_ends_the_old_digest_and_keeps_everything_else
        rehashing_never_undoes_a_new_secret
        rehashing_by_a_taken_digest_changes_nothing
        of_many_rehashings_one_is_done
        rehashing_and_replacing_race_to_one_truth
        rehashing_and_deleting_race_to_one_truth
        a_use_of_a_rehashed_secret_is_shown_and_counted
    }
    rotating {
        rotating_files_the_successor_and_limits_the_old
        rotating_never_lengthens_a_life
        rotating_counts_both_during_a_grace
        rotating_with_a_grace_that_is_over_fits_at_the_cap
        rotating_without_grace_fits_at_the_cap_and_ends_the_old_for_good
        rotating_an_expired_key_makes_no_room
        a_key_is_rotated_once
        a_key_that_was_rotated_gets_no_new_secret
        of_many_rotations_one_is_done
        a_successor_belongs_to_the_same_account_and_has_an_id_of_its_own
        a_rotation_is_seen_whole
    }
    ending {
        deleting_leaves_a_tombstone_for_good
        nothing_brings_an_ended_secret_back
        deleting_all_ends_expired_ones_too_and_only_this_account_s
        of_many_deletions_one_is_done
        a_delete_is_seen_by_every_lookup_that_starts_after_it
    }
    races {
        deleting_and_replacing_race_to_one_truth
        deleting_and_rotating_race_to_one_truth
        replacing_and_rotating_race_to_one_truth
        deleting_all_and_inserting_race_to_one_truth
        rotations_and_creations_race_to_the_cap_and_no_further
        a_rotation_at_the_cap_lets_nothing_else_in
        writes_to_one_key_do_not_undo_each_other
    }
    versions {
        a_write_takes_one_version_and_names_what_it_touched
        what_changes_nothing_takes_no_version
        changes_are_those_after_a_version
    }
    following {
        versions_are_in_the_order_of_commits
    }
    uses {
        a_use_is_shown_to_the_millisecond
        uses_go_only_forward
        many_uses_are_noted_in_one_call
        a_use_of_what_is_not_live_is_passed_over
        a_late_use_never_revives_a_key
        the_last_use_is_shown_whole
        a_use_without_requests_shows_nothing
    }
    usage {
        uses_are_counted_by_day
        uses_of_many_callers_add_up
        counts_stop_where_numbers_end
        usage_begins_with_the_day_asked_for
        usage_is_of_one_account_and_in_order
        a_use_of_an_unknown_secret_is_not_counted
        a_use_of_an_ended_secret_is_its_key_s
        an_ended_key_is_named_as_it_was_at_its_end
        days_are_forgotten_in_time
        counting_changes_nothing_else
    }
    texts {
        odd_texts_come_back_as_they_were
        the_longest_texts_come_back_whole
        texts_that_look_alike_are_not_the_same
        times_come_back_to_the_millisecond
    }
    leaving {
        a_write_whose_caller_goes_away_is_whole
        a_write_whose_caller_went_away_can_be_repeated
    }
}
