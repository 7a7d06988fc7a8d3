#!/usr/bin/env bash
# Runs fuzz targets for so many seconds each, from the corpora that are kept: `fuzz/run.sh [SECONDS [TARGET…]]`.
# Stable Rust will do; what a target finds is left in `fuzz/artifacts`. Says of each what the processor has spent.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-10}
shift || true
command -v cargo-fuzz > /dev/null || cargo install cargo-fuzz --locked --version "^0.13"
if [ $# -eq 0 ]; then
    all=$(cargo fuzz list --fuzz-dir .)
    # shellcheck disable=SC2086
    set -- $all
fi
# What earlier runs found is kept in an archive, and what this one finds goes beside it: `keep.sh` archives both.
# Not every target has seeds written by hand.
said=$(mktemp)
spent=$(mktemp)
trap 'rm -f "$said" "$spent"' EXIT
for target in "$@"; do
    mkdir -p "found/$target" "corpus/$target" "artifacts/$target"
    [ ! -e "corpus/$target.tar.gz" ] || tar -xzf "corpus/$target.tar.gz" -C "found/$target"
    dictionary=()
    [ ! -e "dictionaries/$target.dict" ] || dictionary=("-dict=dictionaries/$target.dict")
    cargo fuzz build --sanitizer none --fuzz-dir . "$target" > "$said" 2>&1 || { tail -n 60 "$said"; exit 1; }
    TIMEFORMAT='%U + %S s of the processor'
    if ! { time cargo fuzz run --sanitizer none --fuzz-dir . "$target" "found/$target" "corpus/$target" -- \
        "-max_total_time=$seconds" -timeout=10 -print_final_stats=1 "${dictionary[@]}" > "$said" 2>&1; } 2> "$spent"; then
        tail -n 60 "$said"
        exit 1
    fi
    # A run that did not come to its end has no such line.
    end=$(grep -a -E '#[0-9]+\s+DONE' "$said" | tail -n 1 | tr -s '\t ' ' ') || { tail -n 60 "$said"; exit 1; }
    printf '%-10s %s, %s\n' "$target" "$end" "$(cat "$spent")"
done
