#!/usr/bin/env bash
# Counts the instructions of accepting a key from memory, here and in another revision:
#
#     benches/instructions.sh REVISION
#
# valgrind counts; it has no SHA instructions, so the hash is done in software there and would drown the
# rest. What is compared is accepting without the hash and without what the bare inner service costs.
set -euo pipefail
cd "$(dirname "$0")/.."
revision=$(git rev-parse --short "$1")
command -v valgrind > /dev/null || { echo "valgrind is needed" >&2; exit 1; }

work=$PWD/target/instructions
rm -rf "$work/then"
mkdir -p "$work"
trap 'git worktree remove --force "$work/then"' EXIT
git worktree add --quiet --detach "$work/then" "$revision"
cp benches/instructions.rs "$work/then/benches/"
grep -q 'name = "instructions"' "$work/then/Cargo.toml" ||
    printf '\n[[bench]]\nname = "instructions"\nharness = false\n' >> "$work/then/Cargo.toml"

# The program at a path.
build() {
    (cd "$1" && CARGO_TARGET_DIR=$work/target cargo build --release --bench instructions \
        --message-format=json 2> /dev/null) |
        sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' | tail -1
}
# Instructions of a run.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
# Instructions of one of many.
each() { echo $((($(count "$1" "$2" 20000) - $(count "$1" "$2" 10000)) / 10000)); }

row() { printf '%-12s %8s %8s %8s %8s\n' "$@"; }
row '' accept hash bare rest
declare -A rest
for place in "$work/then" "$PWD"; do
    # Copied, since both have the same name.
    cp "$(build "$place")" "$work/program"
    accept=$(each "$work/program" accept)
    hash=$(each "$work/program" hash)
    bare=$(each "$work/program" bare)
    rest[$place]=$((accept - hash - bare))
    name=$revision
    [ "$place" = "$PWD" ] && name=here
    row "$name" "$accept" "$hash" "$bare" "${rest[$place]}"
done
awk -v then="${rest[$work/then]}" -v here="${rest[$PWD]}" 'BEGIN {
    printf "here against then: %+.1f %%\n", (here / then - 1) * 100 }'
