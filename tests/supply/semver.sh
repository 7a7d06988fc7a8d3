#!/usr/bin/env bash
# Compares the public API with that of the last version, and fails when the version number hides a break.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! last=$(git describe --tags --match 'v*' --abbrev=0 2> /dev/null); then
    echo "left out: the comparison with the last version, because there is none yet"
    exit 0
fi
command -v cargo-semver-checks > /dev/null || cargo install cargo-semver-checks --locked --version "^0.51"
cargo semver-checks --baseline-rev "$last" --all-features
