#!/usr/bin/env bash
# The conformance suite of the OCI distribution-spec against `kharon serve`: pull, push and content
# discovery. Content management is off, as the server deletes nothing; so are sparse indexes, which
# the specification leaves to the registry and the server refuses.
#
# Takes the suite as a ready program: $KHARON_CONFORMANCE, or `conformance` (the suite that is told by
# OCI_REGISTRY what to test) and `conformance.test` (the one up to 1.1.1, told by OCI_ROOT_URL) in
# $KHARON_TEST_BIN or on PATH. Ends with 77 if there is none; nothing here fetches one.
# $KHARON_BINARY names a kharon to test instead of a debug build.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=()
if [[ -n ${KHARON_CONFORMANCE:-} ]]; then
    suites=("$KHARON_CONFORMANCE")
else
    for name in conformance conformance.test; do
        suite=$(PATH=${KHARON_TEST_BIN:+$KHARON_TEST_BIN:}$PATH type -P "$name") && suites+=("$suite")
    done
fi
if ((${#suites[@]} == 0)); then
    echo "SKIP conformance: neither \`conformance\` nor \`conformance.test\` is in \$KHARON_TEST_BIN" >&2
    exit 77
fi

kharon=${KHARON_BINARY:-}
if [[ -z $kharon ]]; then
    cargo build --locked --bin kharon
    kharon=${CARGO_TARGET_DIR:-target}/debug/kharon
fi

work=$(mktemp -d)
server=
finish() {
    [[ -z $server ]] || kill "$server" || true
    wait
    rm -rf "$work"
}
trap finish EXIT

"$kharon" serve --dir "$work/store" --listen 127.0.0.1:0 2> "$work/server.log" &
server=$!
address=
for ((i = 0; i < 300; i++)); do
    address=$(sed -n 's|.* on http://\([0-9.:]*\).*|\1|p' "$work/server.log")
    [[ -z $address ]] || break
    sleep 0.1
done
[[ -n $address ]] || { cat "$work/server.log"; exit 1; }

# A configuration file or a variable of the caller must not switch anything off.
for variable in "${!OCI_@}"; do unset "$variable"; done
export OCI_REGISTRY=$address OCI_TLS=disabled OCI_REPO1=conformance/one OCI_REPO2=conformance/two
export OCI_VERSION=1.1 OCI_RESULTS_DIR=$work/results
export OCI_API_BLOBS_DELETE=false OCI_API_MANIFESTS_DELETE=false OCI_API_TAGS_DELETE=false
# What only the next version of the specification asks for.
export OCI_API_BLOBS_UPLOAD_CANCEL=true OCI_API_BLOBS_DIGEST_HEADER=true
export OCI_API_MANIFESTS_DIGEST_HEADER=true OCI_API_MANIFESTS_TAG_PARAM=true
# The same for the suite up to 1.1.1.
export OCI_ROOT_URL=http://$address OCI_NAMESPACE=conformance/one OCI_CROSSMOUNT_NAMESPACE=conformance/two
export OCI_TEST_PULL=1 OCI_TEST_PUSH=1 OCI_TEST_CONTENT_DISCOVERY=1 OCI_AUTOMATIC_CROSSMOUNT=1
export OCI_REPORT_DIR=none

# judge LOG: a suite that ran nothing may end with 0, and one that takes a refusal for a missing
# feature calls it skipped.
judge() {
    local passed failed skipped
    if grep -q '^OCI Conformance Result: Pass' "$1"; then
        passed=$(sed -n 's/^  Pass\.*: *//p' "$1")
        failed=$(awk '/^  (FAIL|Error)\.+:/ { sum += $2 } END { print sum + 0 }' "$1")
        skipped=$(sed -n 's/^  Skip\.*: *//p' "$1")
        echo "$passed passed, $failed failed, $skipped skipped"
        ((passed > 0 && failed == 0 && skipped == 0))
    else
        sed -n 's/^SUCCESS! -- \([0-9]* Passed\) | \([0-9]* Failed\) .*| \([0-9]* Skipped\)/\1, \2, \3/p' "$1" \
            | tee "$work/counts"
        grep -Eq '^[1-9][0-9]* Passed, 0 Failed, ' "$work/counts"
    fi
}

for suite in "${suites[@]}"; do
    echo "conformance: $suite"
    status=0
    (cd "$work" && timeout 600 "$suite" 2>&1) | sed 's/\x1b\[[0-9;]*m//g' > "$work/suite.log" || status=$?
    if ! judge "$work/suite.log" || ((status != 0)); then
        grep -E -A4 'FAIL|Error|Skip$|\[FAIL' "$work/suite.log" || cat "$work/suite.log"
        echo "conformance: $suite failed ($status)"
        exit 1
    fi
done
