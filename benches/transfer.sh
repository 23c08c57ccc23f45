#!/usr/bin/env bash
# kharon beside docker-charon, skopeo and curl: the same image from one registry to another, in the
# same run. Prints a table in Markdown and how far the targets of docs/performance.md are met.
#
#     benches/transfer.sh [--size MB] [--rounds N] [--folder FOLDER] [--check]
#
#     --size MB        size of each of the four layers in 10^6 bytes (400)
#     --rounds N       how often each job is done; medians are shown (5)
#     --folder FOLDER  where data is made, about 14 times the size of a layer (mktemp -d)
#     --check          end with 1 where a target is missed
#
# Jobs. `full`: an image of four layers, whose content does not compress, to an empty registry.
# `upgrade`: three layers stay, the fourth is replaced by one of a fortieth of its size; the far
# registry has the old image. skopeo cannot leave out what the far side has, so it carries all of it.
#
# How each is run: kharon and docker-charon to one zip; skopeo to a `dir:`, its fastest; curl to one
# file per blob, all at once (`curl --parallel`), and knowing which blobs are new. curl pushes with
# one process per blob, all at once. Both registries are docker-registry on this machine, so all
# share its processors. Jobs of one round follow each other tool by tool, dirty pages are written
# back in between, memory is touched before each where FOLDER is in memory, and every push is checked.
#
# Needs docker-registry, skopeo, docker-charon (`.ci/run` says in which versions), curl, python3 and
# GNU time; programs are looked for in $KHARON_TEST_BIN, then on PATH. $KHARON is the program that is
# measured, built from here if it is not set.
set -euo pipefail

. "$(dirname "$0")/common.sh"

size_mb=400 rounds=5 folder=${TMPDIR:-/tmp} check=false
while (($# > 0)); do
    case $1 in
        --size) size_mb=$2 && shift ;;
        --rounds) rounds=$2 && shift ;;
        --folder) folder=$2 && shift ;;
        --check) check=true ;;
        *) usage "$0" ;;
    esac
    shift
done
need time docker-registry skopeo docker-charon curl python3
need_kharon

mkdir -p "$folder"
begin_work "$folder"

# Two images of gzip streams that store random bytes: nothing can be gained by compressing again.
make_images() {
    python3 - "$work/images" "$size_mb" <<'END'
import gzip, hashlib, io, json, os, sys, tarfile

folder, size_mb = sys.argv[1], int(sys.argv[2])
os.makedirs(folder)

def blob(content, media_type):
    digest = hashlib.sha256(content).hexdigest()
    with open(os.path.join(folder, digest), "wb") as file:
        file.write(content)
    return {"mediaType": media_type, "size": len(content), "digest": "sha256:" + digest}

def layer(name, size_bytes):
    random = os.urandom(size_bytes)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        header = tarfile.TarInfo(name)
        header.size = size_bytes
        archive.addfile(header, io.BytesIO(random))
    plain = plain.getvalue()
    diff_id = "sha256:" + hashlib.sha256(plain).hexdigest()
    stored = gzip.compress(plain, compresslevel=0)
    return blob(stored, "application/vnd.docker.image.rootfs.diff.tar.gzip"), diff_id

def image(tag, layers):
    config = {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
    }
    config = blob(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json")
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": config, "layers": [descriptor for descriptor, _ in layers],
    }
    with open(os.path.join(folder, "manifest-" + tag), "w") as file:
        json.dump(manifest, file)
    with open(os.path.join(folder, "blobs-" + tag), "w") as file:
        for descriptor in [config] + manifest["layers"]:
            file.write(descriptor["digest"] + "\n")

layers = [layer(f"data-{n}", size_mb * 1_000_000) for n in range(4)]
image("1", layers)
image("2", layers[:3] + [layer("new", size_mb * 1_000_000 // 40)])
END
    # What an upgrade from 1 to 2 has to carry.
    grep --invert-match --fixed-strings --file="$work/images/blobs-1" "$work/images/blobs-2" \
        > "$work/images/blobs-upgrade"
    cp "$work/images/blobs-1" "$work/images/blobs-full"
}

# put_blob HOST FILE DIGEST
put_blob() {
    local location
    location=$(curl --silent --fail --request POST --output /dev/null --write-out '%header{location}' \
        --data '' "http://$1/v2/app/blobs/uploads/" 2> /dev/null || true)
    # curl before 7.83 cannot write one header.
    [[ $location == http* ]] || location=$(curl --silent --fail --request POST --data '' --dump-header - \
        --output /dev/null "http://$1/v2/app/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    curl --silent --fail --output /dev/null --header 'Content-Type: application/octet-stream' \
        --upload-file "$2" "$location&digest=$3"
}

# put_image HOST FOLDER TAG JOB: the blobs of a job all at once, then the manifest.
put_image() {
    local digest processes=() process
    while read -r digest; do
        put_blob "$1" "$2/${digest#sha256:}" "$digest" &
        processes+=($!)
    done < "$work/images/blobs-$4"
    for process in "${processes[@]}"; do wait "$process"; done
    curl --silent --fail --output /dev/null --upload-file "$work/images/manifest-$3" \
        --header "Content-Type: $manifest_type" \
        "http://$1/v2/app/manifests/$3"
}
export -f put_blob put_image
export work manifest_type

# get_image HOST FOLDER TAG JOB
get_image() {
    local digest arguments=()
    mkdir -p "$2"
    while read -r digest; do
        arguments+=(--output "$2/${digest#sha256:}" "http://$1/v2/app/blobs/$digest")
    done < "$work/images/blobs-$4"
    arguments+=(--output "$2/manifest-$3" "http://$1/v2/app/manifests/$3")
    curl --silent --no-progress-meter --fail --parallel --parallel-immediate \
        --header "Accept: $manifest_type" "${arguments[@]}"
}
export -f get_image

# touch_memory: in a folder in memory, what is written next finds memory that this machine has touched just before.
# A virtual machine gives freed memory back to its host and pays for it anew: whoever comes first pays most.
touch_memory() {
    [[ $(stat --file-system --format %T "$work") == tmpfs ]] || return 0
    head --bytes="$((size_mb * 4500000))" /dev/zero > "$work/touched"
    rm "$work/touched"
}

# measure JOB STEP TOOL COMMAND…
measure() {
    local job=$1 step=$2 tool=$3 bytes
    shift 3
    touch_memory
    timed "$tool" "$@"
    bytes=$(du --summarize --bytes "$work/payload" | cut -f 1)
    echo "$job $step $tool $measured $bytes" >> "$work/measurements"
    echo "  $job $step $tool: ${measured%% *} s" >&2
}

# make_payload JOB TOOL TAG
make_payload() {
    local payload=$work/payload/payload.zip baseline=()
    [[ $1 == full ]] || baseline=(--already-transferred app:1)
    case $2 in
        kharon)
            measure "$1" make "$2" "$KHARON" make-payload --quiet -r "$near" -f "$payload" "app:$3" "${baseline[@]}" ;;
        docker-charon)
            measure "$1" make "$2" docker-charon make-payload --insecure -r "$near" -f "$payload" "app:$3" "${baseline[@]}" ;;
        skopeo)
            measure "$1" make "$2" skopeo --insecure-policy copy --quiet --src-tls-verify=false \
                "docker://$near/app:$3" "dir:$work/payload/image" ;;
        curl)
            measure "$1" make "$2" bash -c "get_image '$near' '$work/payload' $3 $1" ;;
    esac
}

# push_payload JOB TOOL TAG
push_payload() {
    local payload=$work/payload/payload.zip
    case $2 in
        kharon) measure "$1" push "$2" "$KHARON" push-payload --quiet -r "$far" -f "$payload" ;;
        docker-charon) measure "$1" push "$2" docker-charon push-payload --insecure -r "$far" -f "$payload" ;;
        skopeo)
            measure "$1" push "$2" skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
                "dir:$work/payload/image" "docker://$far/app:$3" ;;
        curl) measure "$1" push "$2" bash -c "put_image '$far' '$work/payload' $3 $1" ;;
    esac
}

# The far registry must have the very manifest, and every blob of it.
check_far() {
    local digest
    curl --silent --fail --header "Accept: $manifest_type" \
        "http://$far/v2/app/manifests/$1" | cmp - "$work/images/manifest-$1"
    while read -r digest; do
        curl --silent --fail --head --output /dev/null "http://$far/v2/app/blobs/$digest"
    done < "$work/images/blobs-$1"
}

# The table, and the targets.
report() {
    python3 - "$work/measurements" "$size_mb" "$rounds" <<'END'
import collections, statistics, sys

path, size_mb, rounds = sys.argv[1:]
found = collections.defaultdict(list)
for line in open(path):
    job, step, tool, *numbers = line.split()
    found[job, step, tool].append([float(number) for number in numbers])
tools = ["kharon", "docker-charon", "skopeo", "curl"]
median = {
    key: [statistics.median(column) for column in zip(*rows)] for key, rows in found.items()
}
wall = lambda job, step, tool: [max(row[0], 0.01) for row in found[job, step, tool]]
# Tools of one round ran one after the other, so rounds are compared each for itself: a machine is not equally
# fast all the time.
ratio = lambda job, step, tool, other: statistics.median(
    mine / theirs for mine, theirs in zip(wall(job, step, tool), wall(job, step, other))
)

print(f"Four layers of {size_mb} MB, medians of {rounds} rounds; ratios are medians of each round's.\n")
print("| job | step | tool | wall | CPU | peak memory | carried | wall ÷ docker-charon | wall ÷ curl |")
print("|---|---|---|---:|---:|---:|---:|---:|---:|")
for job in ["full", "upgrade"]:
    for step in ["make", "push"]:
        for tool in tools:
            seconds, user, system, peak, size = median[job, step, tool]
            ratios = [ratio(job, step, tool, other) for other in ["docker-charon", "curl"]]
            print(
                f"| {job} | {step} | {tool} | {seconds:.2f} s | {user + system:.2f} s | {peak / 1024:.0f} MiB "
                f"| {size / 1e6:.1f} MB | {ratios[0]:.2f} | {ratios[1]:.2f} |"
            )
targets = [
    ("make, wall ÷ docker-charon", ratio("full", "make", "kharon", "docker-charon"), 0.45),
    ("make, wall ÷ curl to files", ratio("full", "make", "kharon", "curl"), 1.8),
    ("push, wall ÷ docker-charon", ratio("full", "push", "kharon", "docker-charon"), 0.7),
    ("make, peak memory in MiB", max(row[3] for row in found["full", "make", "kharon"]) / 1024, 64),
    ("push, peak memory in MiB", max(row[3] for row in found["full", "push", "kharon"]) / 1024, 64),
]
print("\n| target (full) | at most | found | |")
print("|---|---:|---:|---|")
for name, value, limit in targets:
    print(f"| {name} | {limit} | {value:.2f} | {'met' if value <= limit else 'MISSED'} |")
sys.exit(any(value > limit for _, value, limit in targets))
END
}

echo "making four layers of $size_mb MB in $work" >&2
make_images
near_port=$(free_port)
mkdir "$work/near"
serve "$work/near" "$near_port"
near_process=$served near=127.0.0.1:$near_port
put_image "$near" "$work/images" 1 1
# A far registry that has the old image, to begin upgrades from.
cp --archive --link "$work/near" "$work/before"
put_image "$near" "$work/images" 2 upgrade

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for job in full upgrade; do
        [[ $job == full ]] && tag=1 before='' || tag=2 before=$work/before
        for tool in kharon docker-charon skopeo curl; do
            rm -rf "$work/payload"
            mkdir "$work/payload"
            make_payload "$job" "$tool" "$tag"
            serve_far "$before"
            push_payload "$job" "$tool" "$tag"
            check_far "$tag"
        done
    done
done
if ! report && $check; then exit 1; fi
