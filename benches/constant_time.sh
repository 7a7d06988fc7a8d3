#!/usr/bin/env bash
# Whether the time that verification takes tells anything of a secret.
#
#     benches/constant_time.sh                      under valgrind: does anything depend on a secret?
#     benches/constant_time.sh dudect [SAMPLES]     measured: can two classes of secrets be told apart?
#     benches/constant_time.sh refusals [PAIRS]     measured: can the reasons for a refusal be told apart?
#
# The first takes seconds and is as good on a busy machine. The others need a quiet one: 10,000,000 samples and
# 1,000,000 pairs, unless told otherwise, take minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built against the crate without its features, as a service that counts nanoseconds is released.
work=${CARGO_TARGET_DIR:-$PWD/target}/constant_time
mkdir -p "$work/program"
cp Cargo.lock "$work/program/"
cat > "$work/program/Cargo.toml" << TOML
[package]
name = "constant-time"
version = "0.0.0"
edition = "2024"
[[bin]]
name = "constant-time"
path = "$PWD/benches/constant_time/main.rs"
[dependencies]
crc32fast = "1"
http = "1"
tokio = { version = "1", features = ["rt-multi-thread", "time"] }
tower = "0.5"
tracing = "0.1"
tracing-subscriber = "0.3"
tower-api-key = { path = "$PWD", default-features = false }
[profile.release]
lto = "fat"
codegen-units = 1
# For the names in valgrind's reports.
debug = "line-tables-only"
[workspace]
TOML
CARGO_TARGET_DIR=$work/target cargo build --quiet --release --manifest-path "$work/program/Cargo.toml"
program=$work/target/release/constant-time

case "${1:-undefined}" in
undefined) ;;
dudect) exec "$program" dudect "${2:-10000000}" ;;
refusals) exec "$program" refusals "${2:-1000000}" ;;
*) echo "dudect, refusals or nothing; not $1" >&2; exit 2 ;;
esac

command -v valgrind > /dev/null || { echo "valgrind is needed" >&2; exit 1; }
failures=0
# A run under valgrind; 99 says that something was reported.
watch() { valgrind --error-exitcode=99 -s "$@" > "$work/said" 2>&1; }
failed() { failures=$((failures + 1)); cat "$work/said"; echo "FAILED: $*"; }

for run in hash pepper compare; do
    if watch "$program" undefined "$run"; then
        echo "$run: nothing depends on a secret"
    else
        failed "$run: something depends on a secret"
    fi
done
# Each suppression must have been used, once: else nothing was secret, or more than one place was let pass. Only who
# is refused is perhaps not named, and where any text will do, none is asked for its checksum.
each_once() {
    for name in "${may[@]}"; do grep -q "used_suppression: *1 $name" "$work/said" || return 1; done
    grep -q "suppressed: ${#may[@]} from ${#may[@]}" "$work/said"
}
for run in accept refuse accept-peppered refuse-peppered accept-any refuse-any; do
    may=('the form' 'the answer')
    case $run in refuse*) may+=('the name') ;; esac
    case $run in *-any) ;; *) may+=('the checksum') ;; esac
    if watch --suppressions=benches/constant_time.supp "$program" undefined "$run" && each_once; then
        echo "$run: nothing but the answer and what the text is"
    else
        failed "$run: something else depends on a secret"
    fi
done
for run in equals early-exit table; do
    status=0
    watch "$program" undefined "$run" || status=$?
    if [ "$status" -eq 99 ]; then
        echo "$run: reported, as it must be"
    else
        failed "$run: not reported, though it depends on a secret"
    fi
done
sed -n '/SHA-256/p' "$work/said"
exit "$((failures > 0))"
