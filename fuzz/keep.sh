#!/usr/bin/env bash
# Keeps, of all that runs have found, the least that covers as much: `fuzz/keep.sh [TARGET…]`.
set -euo pipefail
cd "$(dirname "$0")"

if [ $# -eq 0 ]; then
    all=$(cargo fuzz list --fuzz-dir .)
    # shellcheck disable=SC2086
    set -- $all
fi
for target in "$@"; do
    least=$(mktemp -d)
    said=$(mktemp)
    # libFuzzer begins again behind an input on which the target fails, and leaves that out without complaint.
    if ! cargo fuzz run --sanitizer none --fuzz-dir . "$target" "$least" "found/$target" -- -merge=1 > "$said" 2>&1 ||
        ! grep -q -F 'successful in 1 attempt(s)' "$said"; then
        tail -n 60 "$said"
        exit 1
    fi
    rm "$said"
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$least" -cf - . | gzip -9n > "corpus/$target.tar.gz"
    echo "$target: $(find "$least" -type f | wc -l) inputs"
    rm -r "$least"
done
