#!/usr/bin/env bash
# Searches the memory of optimised programs for keys (tests/it/memory.rs): with the crate alone, as a release is
# built by default, and once more with link-time optimisation, which lays out the stack in another way.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/optimised
program=$target/program
mkdir -p "$program/src"
cp Cargo.lock "$program"
cat > "$program/Cargo.toml" << TOML
[package]
name = "optimised"
version = "0.0.0"
edition = "2024"
[dependencies]
bytes = "1"
http = "1"
tokio = { version = "1", features = ["rt", "time"] }
tower = { version = "0.5", features = ["util"] }
tower-api-key = { path = "$PWD", default-features = false }
zeroize = "1"
[profile.linked]
inherits = "release"
lto = "fat"
codegen-units = 1
[workspace]
TOML
printf '#[cfg(test)]\n#[path = "%s/tests/it/memory.rs"]\nmod memory;\n' "$PWD" > "$program/src/lib.rs"
for profile in release linked; do
    CARGO_TARGET_DIR=$target cargo test --profile "$profile" --manifest-path "$program/Cargo.toml" --lib
done
