#!/usr/bin/env bash
# The conformance suite of the OCI distribution-spec against `kharon serve`: pull, push and content
# discovery. Content management is off, as the server deletes nothing; so are sparse indexes, which
# the specification leaves to the registry and the server refuses. Then all that the suite has pushed is packed into a
# payload, and the suite reads it again from `kharon serve --payload`.
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
servers=()
finish() {
    ((${#servers[@]} == 0)) || kill "${servers[@]}" || true
    wait
    rm -rf "$work"
}
trap finish EXIT

# serve NAME ARGUMENTS…: starts a server and says in $address where it listens.
serve() {
    local log=$work/$1.log try
    "$kharon" serve "${@:2}" --listen 127.0.0.1:0 2> "$log" &
    servers+=($!)
    address=
    for ((try = 0; try < 300; try++)); do
        address=$(sed -n 's|.* on http://\([0-9.:]*\).*|\1|p' "$log")
        [[ -z $address ]] || return 0
        sleep 0.1
    done
    cat "$log"
    return 1
}

serve pushed --dir "$work/store"

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

# run SUITE: everything that is switched on must pass.
run() {
    local status=0
    echo "conformance: $1"
    (cd "$work" && timeout 600 "$1" 2>&1) | sed 's/\x1b\[[0-9;]*m//g' > "$work/suite.log" || status=$?
    if ! judge "$work/suite.log" || ((status != 0)); then
        grep -E -A4 'FAIL|Error|Skip$|\[FAIL' "$work/suite.log" || cat "$work/suite.log"
        echo "conformance: $1 failed ($status)"
        exit 1
    fi
}

for suite in "${suites[@]}"; do
    run "$suite"
done

# The registry has what is worth reading only where a suite has pushed it.
"$kharon" make-payload -q -i -r "$address" --whole-registry -f "$work/payload.zip" 2> "$work/make.log" \
    || { cat "$work/make.log"; exit 1; }
"$kharon" inspect --json "$work/payload.zip" > "$work/payload.json"
# lines KIND: what the payload has of it, tags with their digest. Foreign layers are nowhere but at their URLs.
lines() {
    awk -v kind="$1" -F '"' '
        /"manifests": \[/ { within = 1 }
        /\]/ { within = 0 }
        within && /"sha/ && kind == "manifests" { found[$2] }
        /"tag": / { tag = $4 }
        /"digest": / { digest = $4 }
        /"digest": / && tag != "" { found_tag[tag] = digest; tag = "" }
        /"travels": "carried"/ && kind == "blobs" { found[digest] }
        END {
            for (text in found) print text
            if (kind == "tags") for (tag in found_tag) print tag, found_tag[tag]
        }
    ' "$work/payload.json" | sort
}
mapfile -t tagged < <(lines tags)
tags=("${tagged[@]% *}")
mapfile -t manifests < <(lines manifests)
mapfile -t blobs < <(lines blobs)
echo "conformance: a payload with ${#tags[@]} tags, ${#manifests[@]} manifests and ${#blobs[@]} blobs"
((${#tags[@]} > 0 && ${#manifests[@]} > 0 && ${#blobs[@]} > 0))

serve payload --payload "$work/payload.zip"
export OCI_REGISTRY=$address OCI_API_PUSH=false
# Of content that it has not pushed, the suite of 2026 looks for this header in an answer that it has not kept.
export OCI_API_BLOBS_DIGEST_HEADER=false OCI_API_MANIFESTS_DIGEST_HEADER=false
# Nor can it write the reports of such a run: it crashes, unless there is no folder for them.
export OCI_RESULTS_DIR=$work/payload.json
export OCI_RO_DATA_TAGS="${tags[*]}" OCI_RO_DATA_MANIFESTS="${manifests[*]}" OCI_RO_DATA_BLOBS="${blobs[*]}"
# Any manifest may be asked for what refers to it.
export OCI_RO_DATA_REFERRERS="${manifests[*]}"
# The suite up to 1.1.1 reads one of each, and discovers only what it has pushed itself.
export OCI_ROOT_URL=http://$address OCI_TEST_PUSH=0 OCI_TEST_CONTENT_DISCOVERY=0
export OCI_TAG_NAME=${tagged[0]% *} OCI_MANIFEST_DIGEST=${tagged[0]#* } OCI_BLOB_DIGEST=${blobs[0]}
for suite in "${suites[@]}"; do
    run "$suite"
done
