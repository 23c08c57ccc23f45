#!/usr/bin/env bash
# Runs the OCI distribution-spec's conformance suite against `kharon serve`.
#
#   tests/conformance.sh KHARON [SUITE]
#
# KHARON is the kharon binary. SUITE is the suite's program (distribution-spec, folder
# `conformance`, from 2026 on), by default what OCI_CONFORMANCE names or `conformance` in
# KHARON_TEST_BIN. Its module is not in Go's public proxy, so it has to be there already: without it
# this says so, loudly, and ends well.
set -euo pipefail

kharon=${1:?usage: tests/conformance.sh KHARON [SUITE]}
suite=${2:-${OCI_CONFORMANCE:-${KHARON_TEST_BIN:-$HOME/.cache/kharon-test-bin}/conformance}}
if [[ ! -x $suite ]]; then
    echo "################ SKIPPED: no conformance suite at $suite ################" >&2
    exit 0
fi

work=$(mktemp -d)
server=
cleanup() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# Another process may take a free port before the server does: then another one is tried.
for _ in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 20000))
    "$kharon" serve --dir "$work/registry" --listen "127.0.0.1:$port" >"$work/server.log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        kill -0 "$server" 2>/dev/null || break
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break 2; fi
        sleep 0.05
    done
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
done
if [[ -z $server ]] || ! kill -0 "$server" 2>/dev/null; then
    echo "the server did not start:" >&2
    cat "$work/server.log" >&2
    exit 1
fi

# Deletion is refused by design, sparse manifests too.
export OCI_REGISTRY=127.0.0.1:$port OCI_TLS=disabled OCI_VERSION=1.1
export OCI_REPO1=conformance/one OCI_REPO2=conformance/two OCI_RESULTS_DIR=$work/results
export OCI_API_BLOBS_DELETE=false OCI_API_MANIFESTS_DELETE=false OCI_API_TAGS_DELETE=false
export OCI_API_BLOBS_UPLOAD_CANCEL=true OCI_API_MANIFESTS_TAG_PARAM=true
export OCI_API_BLOBS_DIGEST_HEADER=true OCI_API_MANIFESTS_DIGEST_HEADER=true

# The suite ends well even where tests fail: its summary decides.
if ! "$suite" >"$work/suite.log" 2>&1 ||
    grep -Eq '^ *(FAIL|Error)\.*: *[1-9]' "$work/suite.log" ||
    ! grep -Eq '^ *Blob push\.*: *Pass' "$work/suite.log"; then
    cat "$work/suite.log"
    echo "conformance: FAILED" >&2
    exit 1
fi
grep -E '^ *(Pass|PASS|FAIL|Error|Skip|Disabled|Total)\.*:' "$work/suite.log" || true
echo "conformance: passed"
