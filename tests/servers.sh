# What the tests of the static binary and of the container image share: a folder of the run's own, servers that end
# with it, and ports. Sourced, after `set -euo pipefail`.

die() {
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

# need PROGRAM…
need() {
    local program
    for program in "$@"; do
        command -v "$program" > /dev/null || die "$program is missing"
    done
}

work=$(mktemp -d)
# Their process IDs, as they are started.
servers=()
finish() {
    local status=$?
    ((${#servers[@]} == 0)) || kill "${servers[@]}" 2> "$work/kill.log" || true
    wait
    if ((status != 0)); then
        tail -n 20 "$work"/*.log | cut -c 1-300
    fi
    # An engine leaves its network behind.
    umount "$work/exec/netns/default" 2> "$work/umount.log" || true
    rm -rf "$work"
}
trap finish EXIT

# A port that is free now; the registries cannot tell us which one they took.
free_port() {
    local port
    for ((port = 20000 + RANDOM % 10000; ; port++)); do
        (: < "/dev/tcp/127.0.0.1/$port") 2> "$work/port.log" || break
    done
    echo "$port"
}

# until_well COMMAND…: waits until it succeeds.
until_well() {
    local try
    for ((try = 0; try < 600; try++)); do
        "$@" > "$work/until.log" 2>&1 && return
        sleep 0.1
    done
    die "never succeeded: $*"
}
