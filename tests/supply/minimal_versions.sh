#!/usr/bin/env bash
# Builds the library with the oldest version of each direct dependency that `Cargo.toml` allows.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r src README.md "$copy"
# Those of tests are resolved together with the others, and would hide what is too old.
awk '/^\[/ { skip = /^\[(dev-dependencies|\[bench\])/ || /^\[\[bench\]\]/ } !skip' Cargo.toml > "$copy/Cargo.toml"
target=$PWD/target/minimal-versions
cd "$copy"
# The option is not stable; the compiler is.
export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$target
cargo update --quiet -Z direct-minimal-versions
cargo check --quiet --lib --bins --all-features
cargo check --quiet --lib --no-default-features
cargo tree --depth 1 --edges normal --all-features --prefix none | sed 1d | awk '{ printf "%s %s\n", $1, $2 }'
