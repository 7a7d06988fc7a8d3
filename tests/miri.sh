#!/usr/bin/env bash
# The core's unit tests, interpreted by Miri, which reports undefined behaviour in whatever they reach, that of the
# dependencies too: `tests/miri.sh` runs the decision's, `tests/miri.sh short` a few of these, `tests/miri.sh all`
# everything that asks no server; `tests/miri.sh layer` runs the tests that send requests through the whole layer.
set -euo pipefail
cd "$(dirname "$0")/.."

# Miri belongs to a nightly compiler.
if ! cargo +nightly miri --version > /dev/null 2>&1; then
    if ! { rustup toolchain install nightly --profile minimal --component miri,rust-src \
        || rustup component add --toolchain nightly miri rust-src; } > /dev/null 2>&1; then
        echo "left out: Miri, because there is no nightly compiler with it"
        # Where nothing may be left out.
        [[ ${TOWER_API_KEY_TEST_TOOLS:-} != required ]] || exit 1
        exit 0
    fi
fi
# Files of proptest's, and the clock. A property is tried with few inputs: an interpreter is slow.
export MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}" PROPTEST_CASES=${PROPTEST_CASES:-4}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri CARGO_PROFILE_DEV_DEBUG=1
# loom has its own way to run threads; SQLite is C; one test asks a million characters.
skipped=(--skip store::cached::tests --skip store::memory::tests --skip store::sqlite --skip every_control_character_of_unicode)
case "${1:-decision}" in
decision) tests=(key:: digest:: extract:: policy:: transport:: verify:: record:: store::memory::index middleware::) ;;
short) tests=(digest:: extract:: policy:: verify::search) ;;
all) tests=("") ;;
layer)
    tests=(decision::)
    # They ask thousands of times.
    skipped=(--skip no_request_over_plain_http_waits --skip no_single_bit)
    ;;
*) echo "short, all, layer or nothing; not $1" >&2; exit 2 ;;
esac
[[ ${1:-} == layer ]] && program=(--test it) || program=(--lib)
cargo +nightly miri test --locked "${program[@]}" --all-features -- "${tests[@]}" "${skipped[@]}"
