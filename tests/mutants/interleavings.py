#!/usr/bin/env python3
"""Takes from the code, one at a time, what keeps two threads apart; fails when loom's models do not notice.

    tests/mutants/interleavings.py [WORD]    all, or those with the word in their name
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants-interleavings"
MEMORY, FLIGHTS, LEASE = (
    f"src/store/{name}.rs" for name in ("memory/registry", "cached/flights", "cached/lease")
)
UNLOCK = "drop(books);\n        let mut books = self.books();\n        "

# What is broken, where, what becomes what, and a model that must fail.
BROKEN = [
    (
        "creating looks for room, lets go of the lock, and creates",
        MEMORY,
        "record.created_at) >= limit {\n            return Ok(Written::Refused);\n        }\n        ",
        "record.created_at) >= limit {\n            return Ok(Written::Refused);\n        }\n        " + UNLOCK,
        "of_three_that_take_the_last_place_one_gets_it",
    ),
    (
        "creating looks for the digest, lets go of the lock, and creates",
        MEMORY,
        "return Ok(Written::Taken);\n        }\n        if active(",
        "return Ok(Written::Taken);\n        }\n        " + UNLOCK + "if active(",
        "one_digest_is_one_key_s",
    ),
    (
        "a first key is made after the lock was let go of",
        MEMORY,
        "contains_key(&record.account) {\n            return Ok(Written::Refused);\n        }\n        ",
        "contains_key(&record.account) {\n            return Ok(Written::Refused);\n        }\n        " + UNLOCK,
        "an_account_gets_one_first_key",
    ),
    (
        "rotating looks for room, lets go of the lock, and rotates",
        MEMORY,
        "if let Some(superseded) = superseded {",
        UNLOCK
        + "let records = books.accounts.entry(account.clone()).or_default();\n        "
        + "if let Some(superseded) = superseded {",
        "a_rotation_takes_a_place_like_any_other",
    ),
    (
        "rotating looks for a successor, lets go of the lock, and rotates",
        MEMORY,
        "return Ok(Written::Superseded);\n        }\n        let superseded",
        "return Ok(Written::Superseded);\n        }\n        "
        + UNLOCK
        + "let records = books.accounts.entry(account.clone()).or_default();\n        let superseded",
        "one_key_has_one_successor",
    ),
    (
        "regenerating looks for a successor, lets go of the lock, and regenerates",
        MEMORY,
        "return Ok(Written::Superseded);\n        }\n        if self.has_fingerprint",
        "return Ok(Written::Superseded);\n        }\n        "
        + UNLOCK
        + "let Some(slot) = books.slot(account, id) else {\n            return Ok(Written::NotFound);\n        };\n"
        + "        if self.has_fingerprint",
        "who_has_a_successor_is_not_regenerated",
    ),
    (
        "a renamed key is published after the lock was let go of",
        MEMORY,
        "let renamed = Arc::clone(slot);\n        ",
        "let renamed = Arc::clone(slot);\n        " + UNLOCK,
        "what_was_deleted_stays_dead",
    ),
    (
        "a new secret is published after the lock was let go of",
        MEMORY,
        "let replaced = Arc::clone(slot);\n        ",
        "let replaced = Arc::clone(slot);\n        " + UNLOCK,
        "a_new_secret_does_not_outlive_its_key",
    ),
    (
        "a read leaves its answer after the lock was let go of",
        FLIGHTS,
        "board.flights.remove(&fingerprint);\n        if let Some(Ok(found))",
        "board.flights.remove(&fingerprint);\n        drop(board);\n        if let Some(Ok(found))",
        "nothing_that_was_read_before_a_write_is_repeated_after_it",
    ),
    (
        "a read leaves its answer whether or not it is still wanted",
        FLIGHTS,
        ".is_none_or(|flight| flight.number != number)",
        ".is_some_and(|flight| flight.number != number)",
        "nothing_that_was_read_before_a_write_is_repeated_after_it",
    ),
    (
        "a read that was given up leaves that there is no such key",
        FLIGHTS,
        "if let Some(Ok(found)) = self.found.take() {",
        "if let Ok(found) = self.found.take().unwrap_or(Ok(None)) {",
        "who_waits_for_a_read_that_is_given_up_reads_on",
    ),
    (
        "a write leaves the read on the board",
        FLIGHTS,
        "board.flights.remove(&fingerprint);\n        self.entries.forget(fingerprint);",
        "let _ = &mut board;\n        self.entries.forget(fingerprint);",
        "a_write_holds_beside_a_read_and_a_renewal",
    ),
    (
        "a write takes the read off the board after it has dropped what is known",
        FLIGHTS,
        "let mut board = self.board(fingerprint);\n        board.flights.remove(&fingerprint);\n"
        "        self.entries.forget(fingerprint);",
        "self.entries.forget(fingerprint);\n"
        "        self.board(fingerprint).flights.remove(&fingerprint);",
        "nothing_that_was_read_before_a_write_is_repeated_after_it",
    ),
    (
        "everything is dropped before the boards are wiped",
        FLIGHTS,
        "        for board in &self.boards {\n            lock(board).flights.clear();\n        }\n"
        "        self.entries.forget_all();",
        "        self.entries.forget_all();\n        for board in &self.boards {\n"
        "            lock(board).flights.clear();\n        }",
        "nothing_that_was_read_before_everything_was_dropped_is_repeated",
    ),
    (
        "the lease is extended without a release",
        LEASE,
        "self.0.fetch_max(nanoseconds(end), Ordering::Release)",
        "self.0.fetch_max(nanoseconds(end), Ordering::Relaxed)",
        "who_sees_a_lease_sees_what_was_dropped_before_it",
    ),
    (
        "the lease is read without an acquire",
        LEASE,
        "self.0.load(Ordering::Acquire)",
        "self.0.load(Ordering::Relaxed)",
        "who_sees_a_lease_sees_what_was_dropped_before_it",
    ),
    (
        "a lease that is given up goes on",
        LEASE,
        "self.0.fetch_min(nanoseconds(now), Ordering::Release);",
        "let _ = now;",
        "a_lease_that_was_given_up_is_over",
    ),
]


def models():
    """The models that fail, or None where the code does not compile."""
    command = ["cargo", "test", "--all-features", "--lib", "--target-dir", str(WORK / "target"), "--"]
    ran = subprocess.run(
        command + ["store::cached::tests", "store::memory::tests"], cwd=WORK / "tree", capture_output=True, text=True
    )
    if "test result:" not in ran.stdout:
        print(ran.stderr)
        return None
    lines = [line.split() for line in ran.stdout.splitlines() if line.endswith("... FAILED")]
    return {line[1].rsplit("::", 1)[1] for line in lines}


def main():
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    ignored = shutil.ignore_patterns("target", ".git", "found", "node_modules")
    # With times of their own: what was built of the last broken tree is not taken for built of this one.
    shutil.copytree(ROOT, tree, ignore=ignored, copy_function=shutil.copy)
    broken = [row for row in BROKEN if all(word in row[0] for word in sys.argv[1:])]
    if not broken:
        sys.exit(f"nothing that is broken has {' and '.join(sys.argv[1:])} in its name")
    failed = models()
    if failed is None:
        sys.exit("nothing is broken, and that does not compile")
    if failed:
        sys.exit(f"nothing is broken, and these fail: {failed}")
    unnoticed = 0
    for name, file, old, new, model in broken:
        path = tree / file
        whole = path.read_text()
        if whole.count(old) != 1:
            sys.exit(f"{name}: {file} has changed; this is there {whole.count(old)} times:\n{old}")
        path.write_text(whole.replace(old, new))
        failed = models()
        path.write_text(whole)
        if failed is None:
            sys.exit(f"{name}: that does not compile")
        if model not in failed:
            unnoticed += 1
        print(f"{'caught ' if model in failed else 'MISSED '} {name}: {', '.join(sorted(failed))}", flush=True)
    if unnoticed:
        sys.exit(f"{unnoticed} not noticed")


if __name__ == "__main__":
    main()
