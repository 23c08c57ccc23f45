#!/usr/bin/env bash
# kharon save beside skopeo's docker-archive and Occy Strap's tarfile: the same image from a registry into one
# tar that `docker load` takes, in the same run. Prints a table in Markdown and how far the targets of
# docs/performance.md are met.
#
#     benches/save.sh [--size MB] [--rounds N] [--folder FOLDER] [--check]
#
#     --size MB        size of each of the four layers in 10^6 bytes (500)
#     --rounds N       how often each tool runs; medians are shown (5)
#     --folder FOLDER  where data is made, about 13 times the size of a layer (mktemp -d)
#     --check          end with 1 where a target is missed
#
# The image has four layers whose content does not compress. skopeo and Occy Strap unpack layers on the way, as
# their formats want it; kharon leaves them as they are, and is also shown with `--uncompressed`, for which it
# unpacks them too. Occy Strap runs without reading its tar again (`--no-verify`). The registry is docker-registry
# on this machine, so all share its processors. Tools of one round follow each other, dirty pages are written back
# in between, memory is touched before each where FOLDER is in memory, and every tar of the first round is checked
# to have the config of the registry.
#
# In the end kharon streams the image to nowhere once more: what it then writes to any disk (GNU time's file system
# outputs, which know nothing of file systems in memory) and leaves in the folder for temporary files must be nothing.
#
# Needs docker-registry, skopeo, occystrap (from PyPI), curl, python3 and GNU time; programs are looked for in
# $KHARON_TEST_BIN, then on PATH. $KHARON is the program that is measured, built from here if it is not set.
set -euo pipefail

. "$(dirname "$0")/common.sh"

size_mb=500 rounds=5 folder=${TMPDIR:-/tmp} check=false
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
need time docker-registry skopeo occystrap curl python3
need_kharon

mkdir -p "$folder"
begin_work "$folder"
mkdir "$work/tmp"
export TMPDIR=$work/tmp

# make_image: writes it straight into the registry, layer by layer, so that little memory is needed.
make_image() {
    python3 - "$1" "$size_mb" <<'END'
import gzip, hashlib, http.client, io, json, os, sys, tarfile, tempfile

host, size_mb = sys.argv[1], int(sys.argv[2])

def send(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(host)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status} {text}")
    return answer

def put(file, media_type):
    digest, size = hashlib.sha256(), 0
    file.seek(0)
    while part := file.read(1 << 20):
        digest.update(part)
        size += len(part)
    digest = "sha256:" + digest.hexdigest()
    location = send("POST", "/v2/app/blobs/uploads/").getheader("location").split(host, 1)[-1]
    file.seek(0)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    send("PUT", f"{location}&digest={digest}", file, headers)
    return {"mediaType": media_type, "size": size, "digest": digest}

class Hashed:
    def __init__(self, out):
        self.out, self.digest = out, hashlib.sha256()
    def write(self, part):
        self.digest.update(part)
        return self.out.write(part)

class Random:
    def read(self, size):
        return os.urandom(size)

layers, diff_ids = [], []
for number in range(4):
    with tempfile.TemporaryFile() as file:
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=0, mtime=0) as packed:
            plain = Hashed(packed)
            with tarfile.open(fileobj=plain, mode="w|") as archive:
                header = tarfile.TarInfo(f"data-{number}")
                header.size = size_mb * 1_000_000
                archive.addfile(header, Random())
        diff_ids.append("sha256:" + plain.digest.hexdigest())
        layers.append(put(file, "application/vnd.docker.image.rootfs.diff.tar.gzip"))
config = {
    "architecture": "amd64", "os": "linux", "config": {},
    "rootfs": {"type": "layers", "diff_ids": diff_ids},
}
config = put(io.BytesIO(json.dumps(config).encode()), "application/vnd.docker.container.image.v1+json")
media_type = "application/vnd.docker.distribution.manifest.v2+json"
manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
send("PUT", "/v2/app/manifests/1", json.dumps(manifest), {"Content-Type": media_type})
print(config["digest"].removeprefix("sha256:"))
END
}

# touch_memory: in a folder in memory, what is written next finds memory that this machine has touched just before.
touch_memory() {
    [[ $(stat --file-system --format %T "$work") == tmpfs ]] || return 0
    head --bytes="$((size_mb * 4500000))" /dev/zero > "$work/touched"
    rm "$work/touched"
}

# run_tool TOOL: leaves its tar in $work/saved.
run_tool() {
    local tar=$work/saved/x.tar command
    case $1 in
        kharon) command=("$KHARON" save "$near/app:1" -o "$tar") ;;
        kharon-plain) command=("$KHARON" save "$near/app:1" --uncompressed -o "$tar") ;;
        skopeo) command=(skopeo copy --quiet --src-tls-verify=false "docker://$near/app:1" "docker-archive:$tar:app:1") ;;
        occystrap) command=(occystrap --insecure --no-verify process "registry://$near/app:1" "tar://$tar") ;;
    esac
    rm -rf "$work/saved"
    mkdir "$work/saved"
    touch_memory
    timed "$1" "${command[@]}"
    echo "$1 $measured $(stat --format %s "$tar")" >> "$work/results"
    if [[ -n $(ls -A "$TMPDIR") ]]; then
        rm -rf "${TMPDIR:?}"/*
        echo "$1 left something in the folder for temporary files" >&2
    fi
}

# check_tar TOOL: the tar must hold the registry's config, which makes the image's ID.
check_tar() {
    python3 - "$work/saved/x.tar" "$config" "$1" <<'END'
import hashlib, json, sys, tarfile

path, expected, tool = sys.argv[1:]
with tarfile.open(path) as archive:
    named = json.load(archive.extractfile("manifest.json"))[0]
    config = hashlib.sha256(archive.extractfile(named["Config"]).read()).hexdigest()
    names = set(archive.getnames())
if config != expected or len(named["Layers"]) != 4 or not names.issuperset(named["Layers"]):
    raise SystemExit(f"{tool} saved another image")
END
}

report() {
    python3 - "$work/results" "$size_mb" "$rounds" "$written" <<'END'
import collections, statistics, sys

path, size_mb, rounds, written = sys.argv[1], *map(int, sys.argv[2:])
found = collections.defaultdict(list)
for line in open(path):
    tool, *numbers = line.split()
    found[tool].append([float(number) for number in numbers])
tools = ["kharon", "kharon-plain", "skopeo", "occystrap"]
names = dict(zip(tools, ["kharon", "kharon `--uncompressed`", "skopeo", "Occy Strap"]))
wall = lambda tool: [max(row[0], 0.01) for row in found[tool]]
# Tools of one round ran one after the other, so rounds are compared each for itself: a machine is not equally
# fast all the time.
ratio = lambda tool, other: statistics.median(
    mine / theirs for mine, theirs in zip(wall(tool), wall(other))
)
faster = min(["skopeo", "occystrap"], key=lambda tool: statistics.median(wall(tool)))

print(f"Four layers of {size_mb} MB, medians of {rounds} rounds; ratios are medians of each round's.\n")
print(f"| tool | wall | CPU | peak memory | tar | wall ÷ {names[faster]} |")
print("|---|---:|---:|---:|---:|---:|")
for tool in tools:
    seconds, user, system, peak, size = [statistics.median(column) for column in zip(*found[tool])]
    print(
        f"| {names[tool]} | {seconds:.2f} s | {user + system:.2f} s | {peak / 1024:.0f} MiB "
        f"| {size / 1e6:.1f} MB | {ratio(tool, faster):.2f} |"
    )
targets = [
    (f"wall ÷ {names[faster]}, the faster other", ratio("kharon", faster), 0.5),
    ("peak memory in MiB", max(row[3] for row in found["kharon"]) / 1024, 64),
    ("blocks written to disks when streamed to nowhere", written, 0),
]
print("\n| target | at most | found | |")
print("|---|---:|---:|---|")
for name, value, limit in targets:
    print(f"| {name} | {limit} | {value:.2f} | {'met' if value <= limit else 'MISSED'} |")
sys.exit(any(value > limit for _, value, limit in targets))
END
}

echo "making four layers of $size_mb MB in $work" >&2
near_port=$(free_port)
mkdir "$work/near"
serve "$work/near" "$near_port"
near_process=$served near=127.0.0.1:$near_port
config=$(make_image "$near")

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for tool in kharon skopeo occystrap kharon-plain; do
        run_tool "$tool"
        ((round > 1)) || check_tar "$tool"
    done
done
rm -rf "$work/saved"
sync
"$(type -P time)" --format '%O' --output "$work/measured" "$KHARON" --quiet save "$near/app:1" -o - > /dev/null
written=$(tail -n 1 "$work/measured")
[[ -z $(ls -A "$TMPDIR") ]] || { echo "kharon left temporary files" >&2 && exit 1; }
if ! report && $check; then exit 1; fi
