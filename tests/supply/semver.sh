#!/usr/bin/env bash
# Compares the public API with that of the last version, and fails when the version number hides a break.
set -euo pipefail
cd "$(dirname "$0")/../.."

left_out() { echo "left out: the comparison with the last version, because $1"; }
# Without git, and in a shallow clone, nobody knows whether there is one. Where nothing may be left out, that is a failure.
if [[ $(git rev-parse --is-shallow-repository) != false ]]; then
    left_out "this is no whole clone"
    [[ ${TOWER_API_KEY_TEST_TOOLS:-} != required ]] || exit 1
    exit 0
fi
tags=$(git tag --list 'v*')
if [[ -z $tags ]]; then
    left_out "there is none yet"
    exit 0
fi
last=$(git describe --tags --match 'v*' --abbrev=0)
command -v cargo-semver-checks > /dev/null || cargo install cargo-semver-checks --locked --version "^0.51"
cargo semver-checks --baseline-rev "$last" --all-features
