#!/usr/bin/env bash
# Runs every test. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# The examples' own `curl` lines are run as they are printed; sqlite is compiled by the C compiler.
missing=()
for tool in curl cc; do
    command -v "$tool" > /dev/null || missing+=("${tool/#cc/gcc}")
done
if [ "${#missing[@]}" -gt 0 ]; then
    run() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
    run apt-get update -qq
    run apt-get install -y -qq "${missing[@]}"
fi

# Everything; the tests build and run the examples themselves. Then the documentation's programs.
cargo test --all-features --locked --lib --test it
cargo test --all-features --locked --doc
# Without any feature: the core alone.
cargo test --no-default-features --locked --lib
