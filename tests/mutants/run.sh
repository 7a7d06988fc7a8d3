#!/usr/bin/env bash
# Breaks the code that .cargo/mutants.toml names, one small way at a time, and fails when the tests do not
# notice one that argued.txt does not have.
#
#   run.sh              everything
#   run.sh short        src/policy.rs and src/extract.rs
#   run.sh since REV    what has changed since a revision
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/mutants-report
rm -rf "$out" && mkdir -p "$out"

case "${1:-all}" in
    all) what=() ;;
    # The fields of structs are mutated whatever --re says.
    short) what=(--re 'src/(policy|extract)\.rs' --exclude src/manage.rs --exclude 'src/store/**') ;;
    since) git diff "$2" > "$out/diff" && what=(--in-diff "$out/diff") ;;
    *) sed -n '2,8p' "$0" && exit 1 ;;
esac

mutants() { # 2: some are missed, 3: some hang; both are looked at in the end
    local said=0
    cargo mutants --jobs "${JOBS:-2}" --output "$out" "${what[@]}" "$@" || said=$?
    [[ $said == 0 || $said == 2 || $said == 3 ]]
}

# First the unit tests, but for the models of all interleavings; then, of what these missed, the others.
mutants --cargo-arg=--lib -- -- --skip store::fleet
if [[ -s $out/mutants.out/missed.txt ]]; then
    mutants --iterate --cargo-arg=--test --cargo-arg=mutants
fi

# Lines move; functions stay.
without_places() { sed -E 's/:[0-9]+:[0-9]+: /: /' "$1" | sort -u; }
unargued=$(comm -23 <(without_places "$out/mutants.out/missed.txt") <(grep -v '^#' tests/mutants/argued.txt | sort -u))
if [[ -n $unargued ]]; then
    printf 'no test notices:\n%s\n' "$unargued"
    exit 1
fi
echo 'every mutant is caught or argued'
