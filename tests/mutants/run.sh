#!/usr/bin/env bash
# Breaks the code that .cargo/mutants.toml names, one small way at a time, and fails when the tests do not
# notice one that argued.txt does not have. Its lists are left in target/mutants-at-once.
#
#   run.sh              everything
#   run.sh short        a few files of the decision
#   run.sh since REV    what has changed since a revision, one build for each mutant
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/mutants-at-once
rm -rf "$out" && mkdir -p "$out"

command -v cargo-mutants > /dev/null || cargo install cargo-mutants --locked --version "^27"
python=target/mutants-python
if [[ ! -x $python/bin/python ]]; then
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r tests/mutants/requirements.txt
fi
at_once() { "$python/bin/python" tests/mutants/at_once.py "$out" "$@"; }

one_by_one() { # 2: some are missed, 3: some hang; both are looked at in the end
    local said=0
    cargo mutants --jobs "${JOBS:-2}" --output "$out" "$@" || said=$?
    [[ $said == 0 || $said == 2 || $said == 3 ]]
}
# First the unit tests, but for the models of all interleavings; then, of what these missed, the others.
in_two_rounds() {
    one_by_one "$@" --cargo-arg=--lib -- -- --skip store::fleet
    if [[ -s $out/mutants.out/missed.txt ]]; then
        one_by_one "$@" --iterate --cargo-arg=--test --cargo-arg=it -- -- asks:: axum:: contract::memory decision:: \
            ends:: hashing:: leaks:: manage_api:: manager:: usage:: verifier::
    fi
    cat "$out/mutants.out/missed.txt" >> "$out/missed.txt"
}

case "${1:-all}" in
    all)
        at_once
        # By their names, in which no character may have a meaning.
        mapfile -t alone < <(sed -E 's/[][(){}.*+?|^$\\&]/\\&/g; s/^/--re=^/; s/$/$/' "$out/alone.txt")
        in_two_rounds "${alone[@]}"
        ;;
    short) at_once src/{extract,policy,key,digest,network}.rs src/verify/search.rs src/transport/proxies.rs ;;
    since) git diff "$2" > "$out/diff" && in_two_rounds --in-diff "$out/diff" ;;
    *) sed -n '2,8p' "$0" && exit 1 ;;
esac

# Lines move; functions stay.
without_places() { sed -E 's/:[0-9]+:[0-9]+: /: /' "$1" | sort -u; }
unargued=$(comm -23 <(without_places "$out/missed.txt") <(grep -v '^#' tests/mutants/argued.txt | sort -u))
if [[ -n $unargued ]]; then
    printf 'no test notices:\n%s\n' "$unargued"
    exit 1
fi
echo 'every mutant is caught, argued or no program'
