#!/usr/bin/env bash
# Keeps, of all that runs have found, the least that covers as much: `fuzz/keep.sh [TARGET…]`.
set -euo pipefail
cd "$(dirname "$0")"

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $(sed -n 's/^name = "\([a-z]*\)"$/\1/p' Cargo.toml)
fi
for target in "$@"; do
    least=$(mktemp -d)
    cargo fuzz run --sanitizer none --fuzz-dir . "$target" "$least" "found/$target" -- -merge=1 > /dev/null 2>&1
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$least" -cf - . | gzip -9n > "corpus/$target.tar.gz"
    echo "$target: $(find "$least" -type f | wc -l) inputs"
    rm -r "$least"
done
