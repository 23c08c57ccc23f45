#!/usr/bin/env bash
# What deltas are worth: kharon beside docker-charon, `zstd -19 --patch-from` and bsdiff, on the real
# upgrades that benches/corpus/make.sh has made. Prints a table in Markdown and how far the targets of
# docs/performance.md are met.
#
#     benches/delta.sh CORPUS [--writers LIST] [--images LIST] [--jobs LIST] [--bsdiff MB] [--check]
#
#     CORPUS           the folder of benches/corpus/make.sh; nothing in it changes
#     --writers LIST   of `go go127 pgzip zlib pigz`, in quotes (all)
#     --images LIST    of `debian python node tools`, in quotes (all)
#     --jobs LIST      of `fast default max recompress recompress-max`, in quotes (all)
#     --bsdiff MB      the largest old tar that bsdiff is tried on, in 10^6 bytes (80): it takes 17
#                      times the old tar's size in memory; 0 leaves bsdiff out
#     --check          end with 1 where a target is missed
#
# Jobs. `fast`, `default` and `max`: image:new beside image:old at that effort, pushed into a registry
# that has image:old. `recompress` and `recompress-max`: image:new alone, into an empty registry.
# docker-charon does both, as what the others are measured by. zstd and bsdiff get the plain tars of the
# layers that change, one after the other; `push` is what it takes to apply the result.
#
# After each push the digests of all blobs, the manifest and the tags are compared with the source's,
# and skopeo copies the image from the far registry into a folder.
#
# Needs docker-registry, skopeo, docker-charon, zstd, bsdiff, curl, python3 and GNU time; programs are
# looked for in $KHARON_TEST_BIN, then on PATH. $KHARON is the program that is measured, built from here
# if it is not set. Temporary files, up to 2 GB, lie under $TMPDIR.
set -euo pipefail

. "$(dirname "$0")/common.sh"

corpus='' writers='go go127 pgzip zlib pigz' images='debian python node tools' bsdiff_mb=80 check=false
jobs='fast default max recompress recompress-max'
while (($# > 0)); do
    case $1 in
        --writers) writers=$2 && shift ;;
        --images) images=$2 && shift ;;
        --jobs) jobs=$2 && shift ;;
        --bsdiff) bsdiff_mb=$2 && shift ;;
        --check) check=true ;;
        -*) usage "$0" ;;
        *) corpus=$1 ;;
    esac
    shift
done
[[ -e $corpus/far/complete ]] || usage "$0"
corpus=$(realpath "$corpus")
need time docker-registry skopeo docker-charon zstd bsdiff curl python3
need_kharon

begin_work "${TMPDIR:-/tmp}"

# The corpus's registry. Blobs are never written to again, so links to them will do.
serve_near() {
    cp --archive --link "$corpus/near" "$work/near"
    near_port=$(free_port) near=127.0.0.1:$near_port
    serve "$work/near" "$near_port"
    near_process=$served
}

# measure WRITER IMAGE JOB STEP FILE COMMAND…: FILE is what is carried.
measure() {
    local writer=$1 image=$2 job=$3 step=$4 file=$5
    shift 5
    timed "$job" "$@"
    echo "$writer $image $job $step $measured $(stat --format %s "$file")" >> "$work/measurements"
    echo "  $writer/$image $job, $step: ${measured%% *} s, $(stat --format %s "$file") bytes" >&2
}

# patch IMAGE TOOL OLD NEW: one layer, and back again.
patch() {
    local patch=$work/patch result=$work/result
    case $2 in
        zstd)
            measure - "$1" zstd make "$patch" zstd -19 --long=31 --memory=2048MB -qf --patch-from "$3" "$4" -o "$patch"
            measure - "$1" zstd push "$patch" zstd -d --long=31 --memory=2048MB -qf --patch-from "$3" "$patch" -o "$result" ;;
        bsdiff)
            measure - "$1" bsdiff make "$patch" bsdiff "$3" "$4" "$patch"
            measure - "$1" bsdiff push "$patch" bspatch "$3" "$result" "$patch" ;;
    esac
    cmp "$4" "$result"
    rm "$patch" "$result"
}

# patches IMAGE: zstd and bsdiff on each layer that changes.
patches() {
    local new old
    for new in "$corpus/tars/$1"/new/*.tar; do
        old=$corpus/tars/$1/old/${new##*/}
        [[ $(readlink -f "$old") != $(readlink -f "$new") ]] || continue
        patch "$1" zstd "$old" "$new"
        if (($(stat --dereference --format %s "$old") <= bsdiff_mb * 1000000)); then
            patch "$1" bsdiff "$old" "$new"
        elif ((bsdiff_mb > 0)); then
            echo "$1" >> "$work/without-bsdiff"
        fi
    done
}

# carry WRITER IMAGE JOB BEFORE COMMAND…: a payload of image:new by COMMAND (with options of make-payload)
# into a registry that has what BEFORE says.
carry() {
    local writer=$1 image=$2 job=$3 before=$4 payload=$work/payload.zip options=()
    shift 4
    if [[ $before == old ]]; then
        options=(--already-transferred "$writer/$image:old")
        serve_far "$corpus/far"
    else
        serve_far ''
    fi
    measure "$writer" "$image" "$job" make "$payload" \
        "$1" make-payload "${@:2}" -r "$near" -f "$payload" "$writer/$image:new" "${options[@]}"
    options=()
    [[ $1 == "$KHARON" ]] || options=(--insecure)
    measure "$writer" "$image" "$job" push "$payload" "$1" push-payload "${options[@]}" -r "$far" -f "$payload"
    check_far "$writer/$image" "$before"
    rm "$payload"
}

# The far registry must have the same tags, the very manifest and every blob of it, byte for byte.
check_far() {
    local expected=old
    [[ $2 == old ]] || expected=''
    python3 - "$near" "$far" "$1" "$expected" <<'END'
import hashlib, json, sys, urllib.request

near, far, repository, *expected = sys.argv[1:]

def get(host, path):
    accept = "application/vnd.docker.distribution.manifest.v2+json"
    request = urllib.request.Request(f"http://{host}/v2/{repository}/{path}", headers={"Accept": accept})
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)

tags = sorted(json.load(get(far, "tags/list"))["tags"])
assert tags == sorted(filter(None, ["new", *expected])), f"other tags: {tags}"
for tag in tags:
    manifest = get(near, f"manifests/{tag}").read()
    assert get(far, f"manifests/{tag}").read() == manifest, f"another manifest: {tag}"
    manifest = json.loads(manifest)
    for blob in [manifest["config"], *manifest["layers"]]:
        digest = "sha256:" + hashlib.file_digest(get(far, f"blobs/{blob['digest']}"), "sha256").hexdigest()
        assert digest == blob["digest"], f"another blob: {digest} for {blob['digest']}"
END
    rm -rf "$work/copy"
    skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$far/$1:new" "dir:$work/copy"
    rm -rf "$work/copy"
}

# carry_all WRITER IMAGE
carry_all() {
    local job
    carry "$1" "$2" docker-charon old docker-charon --insecure
    carry "$1" "$2" docker-charon-full empty docker-charon --insecure
    for job in $jobs; do
        case $job in
            recompress) carry "$1" "$2" "$job" empty "$KHARON" --quiet --recompress --workdir "$work" ;;
            recompress-max) carry "$1" "$2" "$job" empty "$KHARON" --quiet --recompress --effort max --workdir "$work" ;;
            *) carry "$1" "$2" "$job" old "$KHARON" --quiet --effort "$job" --workdir "$work" ;;
        esac
    done
}

# The table, and the targets.
report() {
    python3 - "$work/measurements" "$work/without-bsdiff" <<'END'
import collections, os, sys

path, skipped = sys.argv[1:]
skipped = set(open(skipped).read().split()) if os.path.exists(skipped) else set()
# (writer, image, job), step: wall, CPU, peak MiB, bytes; sums, but for the peak.
found = collections.defaultdict(lambda: {step: [0.0, 0.0, 0.0, 0] for step in ("make", "push")})
writers, images, jobs = {}, {}, {}
for line in open(path):
    writer, image, job, step, wall, user, system, peak, size = line.split()
    writers[writer] = images[image] = jobs[job] = True
    for name in (image, "total"):
        row = found[writer, name, job][step]
        row[0] += float(wall)
        row[1] += float(user) + float(system)
        row[2] = max(row[2], float(peak) / 1024)
        row[3] += int(size)
writers.pop("-")
# zstd and bsdiff do not know of gzip, so the first writer's blobs are what they are compared with.
first = next(iter(writers))

def carried(writer, image, job):
    return found[writer, image, job]["make"][3]

def part(writer, image, job):
    base = "docker-charon-full" if job.startswith("recompress") or job.endswith("full") else "docker-charon"
    return carried(writer, image, job) / carried(first if writer == "-" else writer, image, base)

print("| writer | image | job | carried | ÷ docker-charon | make | CPU | peak | push | CPU | peak |")
print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
for writer in ["-", *writers]:
    for image in [*images, "total"]:
        for job in jobs:
            is_partial = job == "bsdiff" and (image in skipped or image == "total" and skipped)
            if (writer, image, job) not in found or is_partial:
                continue
            steps = found[writer, image, job]
            cells = [f"{s[0]:.1f} s | {s[1]:.1f} s | {s[2]:.0f} MiB" for s in (steps["make"], steps["push"])]
            size = carried(writer, image, job)
            print(f"| {writer} | {image} | {job} | {size:,} | {part(writer, image, job):.3f} | {' | '.join(cells)} |")
for image in sorted(skipped):
    print(f"\nbsdiff was not tried on all of `{image}`: it would take too much memory.")

targets = []
for writer in writers:
    is_go = writer == "go"
    limits = {"fast": 0.17, "default": 0.102 if is_go else 0.105, "max": 0.097 if is_go else 0.105}
    limits |= {"recompress": 0.74, "recompress-max": 0.66}
    for job in filter(jobs.__contains__, limits):
        targets.append((f"{writer}, {job}: bytes ÷ docker-charon", part(writer, "total", job), limits[job]))
zstd = found["-", "total", "zstd"]["make"][0]
for job, step, limit in [("default", "make", 0.30), ("default", "push", 0.12), ("fast", "make", 0.10)]:
    if job in jobs:
        wall = found[first, "total", job][step][0]
        targets.append((f"{first}, {job}: {step}, wall ÷ `zstd -19 --patch-from`", wall / zstd, limit))
if "default" in jobs:
    for step in ("make", "push"):
        peak = max(found[writer, "total", "default"][step][2] for writer in writers)
        targets.append((f"default: {step}, peak memory in MiB", peak, 512))
print("\n| target (all images) | at most | found | |")
print("|---|---:|---:|---|")
for name, value, limit in targets:
    print(f"| {name} | {limit} | {value:.3f} | {'met' if value <= limit else 'MISSED'} |")
sys.exit(any(value > limit for _, value, limit in targets))
END
}

serve_near
for image in $images; do patches "$image"; done
for writer in $writers; do
    for image in $images; do carry_all "$writer" "$image"; done
done
if ! report && $check; then exit 1; fi
