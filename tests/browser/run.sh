#!/usr/bin/env bash
# The page of `kharon serve --web` in headless Chromium: found, downloaded, compared with what `kharon save`
# writes; errors; by keyboard alone; dark and light. Ends with 77 where Chromium, Node or npm is missing.
#
#   run.sh [--pictures FOLDER]   also writes the pictures of the documentation
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

for program in chromium node npm; do
    command -v "$program" > /dev/null || { echo "no $program"; exit 77; }
done
if [[ ! -d node_modules/playwright-core ]] && ! npm ci --no-audit --no-fund --silent; then
    echo "npm cannot install playwright-core"
    exit 77
fi
kharon=${KHARON:-}
if [[ -z $kharon ]]; then
    (cd "$root" && cargo build --locked)
    kharon=${CARGO_TARGET_DIR:-$root/target}/debug/kharon
fi

work=$(mktemp -d)
pids=()
finish() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2> /dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT

# start NAME ARGUMENTS…: sets `address` to where it listens
start() {
    local name=$1 log=$work/$1.log
    shift
    : > "$log"
    env -u HTTP_PROXY -u HTTPS_PROXY HOME="$work" "$kharon" serve --listen 127.0.0.1:0 "$@" 2> "$log" &
    pids+=($!)
    for _ in {1..100}; do
        address=$(sed -n 's|.*on http://\([0-9.:]*\),.*|\1|p' "$log")
        [[ -z $address ]] || return 0
        sleep 0.1
    done
    cat "$log"
    echo "$name does not listen"
    return 1
}

cp -r "$root/fixtures/quickstart" "$work/worldclock"
start registry --dir "$work/worldclock"
registry=$address
start page --web -r "$registry" --allow-registry "$registry"
page=$address
HOME=$work "$kharon" save -q -r "$registry" --platform linux/amd64 -o "$work/expected.tar" worldclock:v1

node page.mjs "http://$page" "$registry" "$work/expected.tar" "$work" "$@"
