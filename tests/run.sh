#!/usr/bin/env bash
# Runs every test. Installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# The examples' own `curl` lines are run as they are printed; sqlite is compiled by the C compiler;
# the servers are started by the tests. PostgreSQL's program is not on the path. The management page is
# tried in Chromium, MCP with the official SDK for TypeScript, the OpenAPI document by a fuzzer.
missing=()
needs() { command -v "$1" > /dev/null || missing+=("$2"); }
needs curl curl
needs cc gcc
needs redis-server redis-server
needs pgbouncer pgbouncer
needs ip iproute2
needs chromium chromium
needs node nodejs
needs npm npm
# The time that verification takes is looked at under valgrind, and libFuzzer is C++.
needs valgrind valgrind
needs c++ g++
python3 -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3 python3-venv)
compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || needs postgres postgresql
if [ "${#missing[@]}" -gt 0 ]; then
    run() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
    # The packages would start servers of their own on the usual ports; 101 says that none may start.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | run tee "$policy" > /dev/null
        run chmod +x "$policy"
        trap 'run rm -f "$policy"' EXIT
    fi
    run apt-get update -qq
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
fi
for folder in tests/browser tests/mcp; do
    npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
done
schemathesis=target/schemathesis
if [ ! -x "$schemathesis/bin/schemathesis" ]; then
    python3 -m venv "$schemathesis"
    "$schemathesis/bin/pip" install --quiet --disable-pip-version-check -r tests/openapi/requirements.txt
fi
# A server that is missing even so is a failure. Where mounting is not allowed, the tests of full and of read-only
# disks are left out; where networks of one's own are not, or root does not ask, replicas are not cut off.
export TOWER_API_KEY_TEST_SERVERS=required

# What the tests' folders have of keys when they are cleared away is written here: nothing may be.
keys_found=${CARGO_TARGET_DIR:-target}/tmp/keys-found
searching=${CARGO_TARGET_DIR:-target}/tmp/searching
rm -rf "$keys_found" "$searching"

# What the tests would build themselves, while others of them watch the clock.
cargo build --all-features --locked --examples --bins
# Everything. Then the documentation's programs.
said=$(mktemp)
cargo test --all-features --locked --lib --test it 2>&1 | tee "$said"
# Where this is not, the tests have written elsewhere, and nothing would be looked at.
[ -d "$searching" ] || { echo "there is no $searching" >&2; exit 1; }
# Shells that outlive the tests search the folders of the servers that all tests share.
for _ in $(seq 3000); do
    [ -n "$(ls -A "$searching")" ] || break
    sleep 0.1
done
if [ -n "$(ls -A "$searching")" ]; then
    echo "not searched for keys: $(ls "$searching")" >&2
    exit 1
fi
if [ -s "$keys_found" ]; then
    echo "tests have left keys in files:" >&2
    cut -c1-200 "$keys_found" | sort | uniq -c >&2
    exit 1
fi
cargo test --all-features --locked --doc
bash tests/core_alone.sh
grep -o 'left out: .*' "$said" || echo 'no test was left out'
rm "$said"
