//! The contract is worth something: for each promise there is a store that breaks it, and is found out.

mod counting;
pub(crate) mod faulty;
mod keeping;
mod racing;
mod rehashing;
mod roll;
mod writing;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tower_api_key::KeyRegistry;
use tower_api_key::store::contract::{self, PROMISES, Subject};

use self::faulty::{Broken, Faulty};
use self::{counting::*, keeping::*, racing::*, rehashing::*, writing::*};

// Whatever objects below does not object to the way in which the faults are made.
tower_api_key::store_contract!(without_fault, async || Subject::new(Broken(NoFault::default())));

/// A fault, and the promises that must object to it.
macro_rules! found_out {
    ($($test:ident: $fault:ident by $($promise:ident)+;)*) => {
        $(#[test]
        fn $test() {
            $(assert_objects::<$fault, _>(stringify!($promise), contract::$promise);)+
        })*

        const TRIED: &[&str] = &[$($(stringify!($promise)),+),*];
    };
}

/// A promise about a race may miss its chance, so it has a few.
const CHANCES: usize = 5;

fn assert_objects<F: Faulty, P: Future<Output = ()> + Send + 'static>(
    name: &str,
    promise: impl Fn(Arc<dyn KeyRegistry>) -> P + Copy + 'static,
) {
    let open = async || Subject::new(Broken(F::default()));
    let examine = || catch_unwind(AssertUnwindSafe(|| contract::check(open, promise)));
    let objection = (0..CHANCES).find_map(|_| examine().err());
    let objection = objection.unwrap_or_else(|| panic!("{name} does not object"));
    let said = objection.downcast_ref::<String>().cloned();
    let said = said.or_else(|| objection.downcast_ref::<&str>().map(|&said| said.into()));
    let said = said.expect("an objection says what is wrong");
    // What the store said was looked at, and is not an accident of the test.
    assert!(!said.contains("unwrap") && !said.contains("hangs"), "{name}: {said}");
    println!("{name}: {said}");
}

found_out! {
    forgets_scopes: ForgetsScopes by
        what_was_inserted_is_found_listed_and_got the_longest_texts_come_back_whole;
    forgets_sources: ForgetsSources by
        what_was_inserted_is_found_listed_and_got the_longest_texts_come_back_whole;
    forgets_many_sources: ForgetsManySources by the_longest_texts_come_back_whole;
    replace_forgets_sources: ReplaceForgetsSources by
        replacing_ends_the_old_secret_and_keeps_everything_else;
    always_done: AlwaysDone by
        nothing_is_found_where_nothing_is deleting_leaves_a_tombstone_for_good
        of_many_deletions_one_is_done another_account_s_key_is_not_found;
    newest_first: NewestFirst by the_list_is_in_order_of_age;
    get_forgets_the_account: GetForgetsTheAccount by another_account_s_key_is_not_found;
    delete_forgets_the_account: DeleteForgetsTheAccount by
        another_account_s_key_is_not_found what_changes_nothing_takes_no_version;
    remembers_answers: RemembersAnswers by
        every_write_that_returned_is_seen a_delete_is_seen_by_every_lookup_that_starts_after_it;
    lists_before_it_files: ListsBeforeItFiles by a_new_key_is_never_seen_half_made;
    one_too_many: OneTooMany by the_cap_holds_one_after_the_other the_cap_holds_under_races;
    counts_then_inserts: CountsThenInserts by
        the_cap_holds_under_races rotations_and_creations_race_to_the_cap_and_no_further;
    counts_expired_keys: CountsExpiredKeys by expired_and_ended_keys_do_not_count;
    looks_then_makes_the_first: LooksThenMakesTheFirst by
        the_first_key_is_made_once_under_races the_first_key_is_not_made_again_after_deletion
        the_first_key_is_the_first_among_other_writes;
    ignores_conflicts: IgnoresConflicts by
        a_taken_fingerprint_is_said_and_nothing_is_stored a_taken_id_is_said_and_nothing_is_stored
        of_many_keys_with_one_fingerprint_one_is_filed of_many_keys_with_one_id_one_is_filed
        a_collision_is_met_with_another_key;
    rename_forgets_scopes: RenameForgetsScopes by renaming_keeps_everything_else;
    replace_keeps_the_hint: ReplaceKeepsTheHint by
        replacing_ends_the_old_secret_and_keeps_everything_else
        writes_to_one_key_do_not_undo_each_other;
    replace_does_half: ReplaceDoesHalf by replacing_by_a_taken_secret_changes_nothing;
    replace_ends_what_it_read: ReplaceEndsWhatItRead by of_many_new_secrets_one_lives;
    replace_files_first: ReplaceFilesFirst by old_and_new_secrets_never_both_live;
    replace_revives: ReplaceRevives by
        deleting_and_replacing_race_to_one_truth replacing_and_rotating_race_to_one_truth;
    rehash_forgets_the_name: RehashForgetsTheName by
        rehashing_ends_the_old_digest_and_keeps_everything_else
        a_write_takes_one_version_and_names_what_it_touched;
    rehash_leaves_the_old_digest: RehashLeavesTheOldDigest by
        rehashing_ends_the_old_digest_and_keeps_everything_else
        rehashing_and_deleting_race_to_one_truth every_write_that_returned_is_seen;
    rehash_undoes_a_new_secret: RehashUndoesANewSecret by
        rehashing_never_undoes_a_new_secret rehashing_and_replacing_race_to_one_truth
        of_many_rehashings_one_is_done;
    rehashes_what_it_read: RehashesWhatItRead by
        of_many_rehashings_one_is_done rehashing_and_replacing_race_to_one_truth;
    rehash_revives: RehashRevives by rehashing_and_deleting_race_to_one_truth;
    rehash_ignores_conflicts: RehashIgnoresConflicts by
        rehashing_by_a_taken_digest_changes_nothing;
    passes_over_uses_of_rehashed_secrets: PassesOverUsesOfRehashedSecrets by
        a_use_of_a_rehashed_secret_is_shown_and_counted;
    loses_the_successor: LosesTheSuccessor by
        rotating_files_the_successor_and_limits_the_old every_write_that_returned_is_seen;
    lengthens_lives: LengthensLives by rotating_never_lengthens_a_life;
    rotate_ignores_the_cap: RotateIgnoresTheCap by
        rotating_counts_both_during_a_grace rotating_an_expired_key_makes_no_room
        rotations_and_creations_race_to_the_cap_and_no_further;
    counts_before_it_supersedes: CountsBeforeItSupersedes by
        rotating_with_a_grace_that_is_over_fits_at_the_cap;
    ends_by_expiry: EndsByExpiry by
        rotating_without_grace_fits_at_the_cap_and_ends_the_old_for_good
        a_rotation_is_seen_whole nothing_brings_an_ended_secret_back;
    rotates_again: RotatesAgain by a_key_is_rotated_once of_many_rotations_one_is_done;
    replaces_what_was_rotated: ReplacesWhatWasRotated by
        a_key_that_was_rotated_gets_no_new_secret;
    rotates_into_another_account: RotatesIntoAnotherAccount by
        a_successor_belongs_to_the_same_account_and_has_an_id_of_its_own;
    rotates_what_was_there: RotatesWhatWasThere by deleting_and_rotating_race_to_one_truth;
    rotates_in_two_steps: RotatesInTwoSteps by
        a_rotation_is_seen_whole a_rotation_at_the_cap_lets_nothing_else_in;
    leaves_no_tombstone: LeavesNoTombstone by
        deleting_leaves_a_tombstone_for_good replacing_ends_the_old_secret_and_keeps_everything_else
        times_come_back_to_the_millisecond;
    use_revives: UseRevives by
        a_use_of_what_is_not_live_is_passed_over a_late_use_never_revives_a_key
        nothing_brings_an_ended_secret_back;
    files_over_tombstones: FilesOverTombstones by
        nothing_brings_an_ended_secret_back a_taken_fingerprint_is_said_and_nothing_is_stored;
    deletes_only_active_keys: DeletesOnlyActiveKeys by
        deleting_all_ends_expired_ones_too_and_only_this_account_s;
    all_have_deleted: AllHaveDeleted by of_many_deletions_one_is_done;
    hears_of_deletions_late: HearsOfDeletionsLate by
        a_delete_is_seen_by_every_lookup_that_starts_after_it;
    counts_then_deletes: CountsThenDeletes by deleting_all_and_inserting_race_to_one_truth;
    rename_writes_everything_back: RenameWritesEverythingBack by
        writes_to_one_key_do_not_undo_each_other;
    one_version_a_secret: OneVersionASecret by a_write_takes_one_version_and_names_what_it_touched;
    refusals_take_versions: RefusalsTakeVersions by what_changes_nothing_takes_no_version;
    gives_the_version_itself: GivesTheVersionItself by changes_are_those_after_a_version;
    versions_come_early: VersionsComeEarly by versions_are_in_the_order_of_commits;
    versions_commit_out_of_order: VersionsCommitOutOfOrder by versions_are_in_the_order_of_commits;
    notes_uses_as_they_come: NotesUsesAsTheyCome by uses_go_only_forward;
    keeps_seconds: KeepsSeconds by
        a_use_is_shown_to_the_millisecond times_come_back_to_the_millisecond;
    notes_the_first_uses: NotesTheFirstUses by many_uses_are_noted_in_one_call;
    keeps_old_addresses: KeepsOldAddresses by the_last_use_is_shown_whole;
    forgets_agents_when_renaming: ForgetsAgentsWhenRenaming by the_last_use_is_shown_whole;
    shows_refusals: ShowsRefusals by
        a_use_without_requests_shows_nothing counting_changes_nothing_else;
    counts_a_secret_once_a_call: CountsASecretOnceACall by uses_are_counted_by_day;
    counts_in_local_time: CountsInLocalTime by uses_are_counted_by_day;
    counts_one_of_two_at_once: CountsOneOfTwoAtOnce by uses_of_many_callers_add_up;
    counts_in_32_bits: CountsIn32Bits by counts_stop_where_numbers_end;
    begins_a_day_late: BeginsADayLate by usage_begins_with_the_day_asked_for;
    gives_keys_without_days: GivesKeysWithoutDays by usage_begins_with_the_day_asked_for;
    gives_everybody_s_usage: GivesEverybodySUsage by usage_is_of_one_account_and_in_order;
    orders_ids_without_case: OrdersIdsWithoutCase by usage_is_of_one_account_and_in_order;
    counts_unknown_secrets: CountsUnknownSecrets by a_use_of_an_unknown_secret_is_not_counted;
    counts_live_secrets_only: CountsLiveSecretsOnly by
        a_use_of_an_ended_secret_is_its_key_s counting_changes_nothing_else;
    names_by_the_secret_that_was_used: NamesByTheSecretThatWasUsed by
        an_ended_key_is_named_as_it_was_at_its_end;
    forgets_after_a_month: ForgetsAfterAMonth by days_are_forgotten_in_time;
    forgets_nothing: ForgetsNothing by days_are_forgotten_in_time;
    forgets_everybody_s_days: ForgetsEverybodySDays by days_are_forgotten_in_time;
    notes_take_versions: NotesTakeVersions by
        counting_changes_nothing_else what_changes_nothing_takes_no_version;
    refusals_forget_tombstones: RefusalsForgetTombstones by counting_changes_nothing_else;
    list_ignores_case: ListIgnoresCase by texts_that_look_alike_are_not_the_same;
    unescapes: Unescapes by odd_texts_come_back_as_they_were;
    truncates: Truncates by the_longest_texts_come_back_whole;
    rotates_half_for_who_leaves: RotatesHalfForWhoLeaves by a_write_whose_caller_goes_away_is_whole;
    takes_the_id_first: TakesTheIdFirst by a_write_whose_caller_went_away_can_be_repeated;
}

#[test]
fn every_promise_can_be_broken() {
    let untried: Vec<_> = PROMISES.iter().filter(|promise| !TRIED.contains(promise)).collect();
    assert!(untried.is_empty(), "no store here breaks these: {untried:?}");
}
