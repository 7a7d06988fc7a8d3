#!/usr/bin/env bash
# Counts the instructions of accepting a key from memory, here and in another revision:
#
#     benches/instructions.sh REVISION
#
# valgrind counts; it has no SHA instructions, so the hash is done in software there and would drown the
# rest. So two things are compared: all that the layer adds, and that without the hash.
set -euo pipefail
cd "$(dirname "$0")/.."
revision=$(git rev-parse --short "$1")
command -v valgrind > /dev/null || { echo "valgrind is needed" >&2; exit 1; }

work=$PWD/target/instructions
rm -rf "$work/then"
mkdir -p "$work"
trap 'git worktree remove --force "$work/then"' EXIT
git worktree add --quiet --detach "$work/then" "$revision"

# Builds the program against the crate in a folder, without its features, as a service that counts
# instructions is built.
build() {
    mkdir -p "$work/program-$1/src"
    cp benches/instructions.rs "$work/program-$1/src/main.rs"
    cp Cargo.lock "$work/program-$1/"
    cat > "$work/program-$1/Cargo.toml" << TOML
[package]
name = "program-$1"
version = "0.0.0"
edition = "2024"
[dependencies]
http = "1"
tokio = { version = "1", features = ["macros", "rt"] }
tower = "0.5"
tower-api-key = { path = "$2", default-features = false }
[profile.release]
lto = "fat"
codegen-units = 1
[workspace]
TOML
    CARGO_TARGET_DIR=$work/target cargo build --quiet --release --manifest-path "$work/program-$1/Cargo.toml"
}
# Instructions of a run; fails where valgrind did, or counted nothing.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p' | grep .
}
# Instructions of one of many.
each() {
    local more fewer
    more=$(count "$1" "$2" 20000) && fewer=$(count "$1" "$2" 10000) && echo $(((more - fewer) / 10000))
}

row() { printf '%-10s %8s %8s %8s %10s %8s\n' "$@"; }
row '' accept bare hash 'the layer' 'no hash'
declare -A layer rest
for name in then here; do
    if [ "$name" = then ]; then build then "$work/then"; else build here "$PWD"; fi
    program=$work/target/release/program-$name
    accept=$(each "$program" accept)
    hash=$(each "$program" hash)
    bare=$(each "$program" bare)
    layer[$name]=$((accept - bare))
    rest[$name]=$((accept - bare - hash))
    row "$name" "$accept" "$bare" "$hash" "${layer[$name]}" "${rest[$name]}"
done
awk -v layer="${layer[here]}" -v before="${layer[then]}" -v rest="${rest[here]}" -v rest_before="${rest[then]}" 'BEGIN {
    printf "here against then: the layer %+.1f %%, without the hash %+.1f %%\n",
        (layer / before - 1) * 100, (rest / rest_before - 1) * 100 }'
