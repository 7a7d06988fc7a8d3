#!/usr/bin/env bash
# The unit tests of the core alone, without any feature. In a copy, because here the tests depend on this crate
# with all of its features, for the sake of the examples and benchmarks.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/core-alone
copy=$target/copy
rm -rf "$copy"
mkdir -p "$copy/tests"
cp -r src README.md benches examples "$copy"
awk '!/^tower-api-key = /' Cargo.toml > "$copy/Cargo.toml"
awk '$0 != " \"tower-api-key\","' Cargo.lock > "$copy/Cargo.lock"
for file in Cargo.toml Cargo.lock; do
    if cmp --quiet "$file" "$copy/$file"; then
        echo "$file does not say that the tests need this crate with its features" >&2
        exit 1
    fi
done
cd "$copy"
CARGO_TARGET_DIR=$target cargo test --no-default-features --lib --locked
