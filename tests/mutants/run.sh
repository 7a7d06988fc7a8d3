#!/usr/bin/env bash
# Breaks the code that .cargo/mutants.toml names, one small way at a time, and fails when the tests do not
# notice one that argued.txt does not have. Its lists are left in target/mutants-at-once.
#
#   run.sh              everything; fails, too, when something is noticed that argued.txt has
#   run.sh short        the files that the decision asks, but for what takes a build for each mutant, and what is argued
#   run.sh since REV    what has changed since a revision, one build for each mutant
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/mutants-at-once
rm -rf "$out"
mkdir -p "$out"

command -v cargo-mutants > /dev/null || cargo install cargo-mutants --locked --version "^27"
python=target/mutants-python
if [[ ! -x $python/bin/python ]]; then
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r tests/mutants/requirements.txt
fi
at_once() { "$python/bin/python" tests/mutants/at_once.py "$out" "$@"; }

one_by_one() { # 2: some are missed, which is looked at in the end; 3: some hang, which is noticed
    local said=0
    cargo mutants --jobs "${JOBS:-2}" --output "$out" "$@" || said=$?
    [[ $said == 0 || $said == 2 || $said == 3 ]]
}
# First the unit tests, but for the models of all interleavings; then, of what these missed, the others, and those
# of replicas.
in_rounds() {
    local missed=$out/mutants.out/missed.txt
    one_by_one "$@" --cargo-arg=--lib -- -- --skip store::fleet --skip store::cached
    # No file: there was nothing to break.
    if [[ -s $missed ]]; then
        one_by_one "$@" --iterate --cargo-arg=--test --cargo-arg=it -- -- asks:: axum:: contract::memory decision:: import:: \
            ends:: hashing:: leaks:: manage_api:: manager:: usage:: verifier::
    fi
    if [[ -s $missed ]]; then
        one_by_one "$@" --iterate --cargo-arg=--test --cargo-arg=it -- -- replicas::
    fi
    if [[ -s $missed ]]; then
        cat "$missed" >> "$out/missed.txt"
    fi
}

decision=(
    src/{digest,extract,key,network,policy,record,transport,verify}.rs src/record/sources.rs
    src/transport/{advice,forwarded,proxies}.rs src/verify/search.rs src/middleware/service.rs
)
mode=${1:-all}
case $mode in
    all)
        at_once
        # By their names, in which no character may have a meaning.
        sed -E 's/[][(){}.*+?|^$\\&]/\\&/g; s/^/--re=^/; s/$/$/' "$out/alone.txt" > "$out/alone-arguments"
        mapfile -t alone < "$out/alone-arguments"
        if [[ ${#alone[@]} -gt 0 ]]; then
            in_rounds "${alone[@]}"
        fi
        ;;
    short) at_once "${decision[@]}" ;;
    since)
        touch "$out/missed.txt"
        git diff "$2" > "$out/diff"
        in_rounds --in-diff "$out/diff"
        ;;
    *) sed -n '2,7p' "$0" && exit 1 ;;
esac

# Lines move; functions stay.
sed -E 's/:[0-9]+:[0-9]+: /: /' "$out/missed.txt" | sort -u > "$out/unnoticed"
grep '^src/' tests/mutants/argued.txt | sort -u > "$out/argued"
unargued=$(comm -23 "$out/unnoticed" "$out/argued")
if [[ -n $unargued ]]; then
    printf 'no test notices:\n%s\n' "$unargued"
    exit 1
fi
stale=$(comm -13 "$out/unnoticed" "$out/argued")
if [[ $mode == all && -n $stale ]]; then
    printf 'argued.txt has what is noticed, or is no more:\n%s\n' "$stale"
    exit 1
fi
if [[ $mode == short && -s $out/alone.txt ]]; then
    printf 'left out, since each takes a build of its own:\n'
    cat "$out/alone.txt"
fi
echo 'every mutant that was tried is caught, argued or no program'
