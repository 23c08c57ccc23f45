# What the benchmarks share: programs, registries on this machine, and measured commands. Sourced, after
# `set -euo pipefail`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH=${KHARON_TEST_BIN:+$KHARON_TEST_BIN:}$PATH
# Nothing may come between this machine and itself.
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1
# shellcheck disable=SC2034 # for those who source this
manifest_type=application/vnd.docker.distribution.manifest.v2+json

# usage SCRIPT: prints the comment at its head, and ends with 2.
usage() {
    sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$1"
    exit 2
}

# need PROGRAM…
need() {
    local program
    for program in "$@"; do
        type -P "$program" > /dev/null || { echo "\`$program\` is missing" >&2 && exit 1; }
    done
}

# need_kharon: leaves in $KHARON what is measured, built from here if it is not set.
need_kharon() {
    [[ -z ${KHARON:-} ]] || return 0
    cargo build --quiet --release --locked --manifest-path "$root/Cargo.toml"
    KHARON=${CARGO_TARGET_DIR:-$root/target}/release/kharon
}

# stop PROCESS: ends a registry of this run.
stop() {
    [[ -n $1 ]] || return 0
    kill "$1" 2> /dev/null || true
    wait "$1" 2> /dev/null || true
}

# begin_work FOLDER: leaves in $work a folder of the run's own in FOLDER. At the end of the run it goes, and
# the registries with it.
near_process='' far_process='' far_port=''
begin_work() {
    work=$(mktemp --directory -p "$1")
    trap 'stop "$near_process"; stop "$far_process"; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# serve STORAGE PORT: starts a registry, and leaves its process in $served.
serve() {
    cat > "$work/$2.yml" <<END_OF_CONFIG
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$1'}}
http: {addr: '127.0.0.1:$2'}
END_OF_CONFIG
    docker-registry serve "$work/$2.yml" > "$work/$2.log" 2>&1 &
    served=$!
    local tries
    for tries in {1..200}; do
        curl --silent --fail "http://127.0.0.1:$2/v2/" > /dev/null && return
        sleep 0.05
    done
    cat "$work/$2.log" >&2
    echo "docker-registry does not answer after $tries tries" >&2
    exit 1
}

# serve_far BEFORE: starts the far registry anew, with a copy of the storage BEFORE or, if that is empty, with
# nothing, and leaves its host in $far. Blobs are never written to again, so links to them will do.
serve_far() {
    stop "$far_process"
    rm -rf "$work/far"
    far_port=${far_port:-$(free_port)}
    # shellcheck disable=SC2034 # for those who source this
    far=127.0.0.1:$far_port
    if [[ -n $1 ]]; then cp --archive --link "$1" "$work/far"; else mkdir "$work/far"; fi
    serve "$work/far" "$far_port"
    far_process=$served
}

# timed NAME COMMAND…: leaves `wall user system peak` (seconds, KiB) in $measured.
timed() {
    local name=$1
    shift
    sync
    if ! "$(type -P time)" --format '%e %U %S %M' --output "$work/measured" "$@" > "$work/output" 2>&1; then
        tail -n 20 "$work/output" >&2
        echo "$name failed: $*" >&2
        exit 1
    fi
    # shellcheck disable=SC2034 # for those who source this
    measured=$(tail -n 1 "$work/measured")
}
