#!/usr/bin/env bash
# Real upgrades for benches/delta.sh: four images, each in an old and a new version, their layers
# compressed by five writers, in the storage of two registries.
#
#     benches/corpus/make.sh FOLDER
#
# | image  | what changes                                                 | what stays       |
# |--------|--------------------------------------------------------------|------------------|
# | debian | the base: bookworm as released, and with security updates    | the Go program   |
# | python | numpy, pandas, flask, requests, cryptography: one release on | the base         |
# | node   | typescript, esbuild, webpack, express: one release on        | the base         |
# | tools  | two layers: a Rust and a Go program, one release on          | the base         |
#
# Everything is named by version, but for Debian, which is taken as it is today. Files have the
# modes and owners of a build as root, and the time of their release.
#
# Writers: `go` is Go's gzip up to 1.26 (Docker, BuildKit), `go127` that from 1.27 on, `pgzip`
# klauspost's (podman, buildah, skopeo), `zlib` Python's at level 6, and `pigz`.
#
# FOLDER (about 5 GB) gets:
#
#     tars/IMAGE/VERSION/N.tar   the plain layers, VERSION is `old` or `new`
#     near                       storage of a registry with WRITER/IMAGE:old and WRITER/IMAGE:new
#     far                        the same with WRITER/IMAGE:old only
#
# A second run makes only what is missing. Remove FOLDER/tars/debian to get today's Debian.
#
# Needs root (mmdebstrap), and mmdebstrap, pip, npm, go (which fetches the toolchains), pigz,
# docker-registry, skopeo, curl and python3.
set -euo pipefail
. "$(dirname "$0")/../common.sh"

(($# == 1)) && [[ $1 != -* ]] || usage "$0"
need mmdebstrap pip3 npm go pigz docker-registry skopeo curl python3
folder=$(realpath --canonicalize-missing "$1")
here=$root/benches/corpus
tars=$folder/tars tools=$folder/tools
images=(debian python node tools) writers=(go go127 pgzip zlib pigz)
mkdir -p "$tars"/{debian,python,node,tools}/{old,new} "$tools"
work=$(mktemp -d -p "$folder")
process=''
finish() {
    stop "$process"
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

old_epoch=1788220800 # 2026-09-01
new_epoch=1790812800 # 2026-10-01
# epoch VERSION
epoch() { [[ $1 == old ]] && echo $old_epoch || echo $new_epoch; }

# pack FOLDER EPOCH TAR: a tar that depends on names, modes and bytes only.
pack() {
    tar --create --file "$3.part" --directory "$1" --sort=name --mtime="@$2" --owner=0 --group=0 \
        --numeric-owner --format=pax --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime .
    mv "$3.part" "$3"
    rm -rf "$1"
}

# debian VERSION
debian() {
    local tar=$tars/debian/$1/1.tar suites=(http://deb.debian.org/debian)
    [[ ! -e $tar ]] || return 0
    [[ $1 == old ]] || suites+=('deb http://deb.debian.org/debian-security bookworm-security main'
        'deb http://deb.debian.org/debian bookworm-updates main')
    # shellcheck disable=SC2016 # mmdebstrap's shell says what $1 is
    SOURCE_DATE_EPOCH=$(epoch "$1") mmdebstrap --quiet --mode=root --variant=minbase --components=main \
        --include=ca-certificates,curl,openssl,python3 \
        --customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/ldconfig/aux-cache "$1"/var/lib/apt/lists/*' \
        bookworm "$work/debian.tar" "${suites[@]}"
    mv "$work/debian.tar" "$tar"
}

# wheels VERSION PACKAGE…: as pip installs them, with bytecode.
wheels() {
    local tar=$tars/python/$1/2.tar packages=$work/wheels/usr/local/lib/python3.11/dist-packages
    [[ ! -e $tar ]] || return 0
    pip3 install --quiet --no-deps --no-compile --root-user-action ignore --target "$packages" \
        --only-binary :all: --python-version 3.11 --implementation cp --platform manylinux2014_x86_64 \
        --platform manylinux_2_28_x86_64 "${@:2}"
    # Bytecode names the time of its source.
    find "$work/wheels" -exec touch --no-dereference --date="@$(epoch "$1")" {} +
    python3 -m compileall -q --invalidation-mode timestamp -s "$work/wheels" "$packages" > "$work/compiled" || true
    pack "$work/wheels" "$(epoch "$1")" "$tar"
}

# node VERSION PACKAGE…: what they depend on is taken as it was on one day.
node() {
    local tar=$tars/node/$1/2.tar
    [[ ! -e $tar ]] || return 0
    mkdir -p "$work/node/app"
    npm install --silent --prefix "$work/node/app" --cache "$folder/npm" --ignore-scripts \
        --no-package-lock --before 2026-11-01 "${@:2}"
    pack "$work/node" "$(epoch "$1")" "$tar"
}

# rust_program VERSION PACKAGE: a program that comes as a wheel.
rust_program() {
    local tar=$tars/tools/$1/2.tar
    [[ ! -e $tar ]] || return 0
    pip3 install --quiet --no-deps --no-compile --root-user-action ignore --target "$work/wheel" "$2"
    mkdir -p "$work/rust/usr/local"
    mv "$work/wheel/bin" "$work/rust/usr/local/"
    rm -rf "$work/wheel"
    pack "$work/rust" "$(epoch "$1")" "$tar"
}

# go_program VERSION MODULE
go_program() {
    local tar=$tars/tools/$1/3.tar
    [[ ! -e $tar ]] || return 0
    GOTOOLCHAIN=go1.26.8 GOBIN=$work/go/usr/local/bin CGO_ENABLED=0 go install -trimpath "$2"
    pack "$work/go" "$(epoch "$1")" "$tar"
}

# compress WRITER: standard input to standard output.
compress() {
    case $1 in
        go) "$tools/gzip-1.26" go ;;
        go127) "$tools/gzip-1.27" go ;;
        pgzip) "$tools/gzip-1.26" pgzip ;;
        zlib) python3 -c '
import shutil, sys, gzip
with gzip.GzipFile("", "wb", 6, sys.stdout.buffer, 0) as file:
    shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)' ;;
        pigz) pigz --no-name -6 ;;
    esac
}

# blob WRITER TAR: prints the file that holds its gzip stream.
blob() {
    local file
    file=$folder/blobs/$1/$(realpath --relative-to "$tars" "$(readlink -f "$2")" | tr / -).gz
    if [[ ! -e $file ]]; then
        mkdir -p "$folder/blobs/$1"
        compress "$1" < "$2" > "$work/blob"
        mv "$work/blob" "$file"
    fi
    echo "$file"
}

# image WRITER IMAGE VERSION FOLDER: what skopeo calls a `dir:`.
image() {
    local tar layers=()
    for tar in "$tars/$2/$3"/*.tar; do layers+=("$tar" "$(blob "$1" "$tar")"); done
    python3 "$here/image.py" "$4" "${layers[@]}"
}

# put FOLDER REFERENCE: a `dir:` into the registry that is being filled.
put() {
    skopeo --insecure-policy copy --quiet --dest-tls-verify=false "dir:$1" "docker://127.0.0.1:$port/$2"
}

for version in old new; do
    echo "Debian, $version" >&2
    debian "$version"
done
echo "wheels, node modules, programs" >&2
wheels old numpy==2.4.5 pandas==3.1.0 flask==3.1.2 requests==2.34.1 cryptography==50.0.1
wheels new numpy==2.4.6 pandas==3.1.1 flask==3.1.3 requests==2.34.2 cryptography==50.0.2
node old typescript@6.0.2 esbuild@0.28.1 webpack@5.112.1 express@5.2.1
node new typescript@6.0.3 esbuild@0.28.2 webpack@5.112.2 express@5.3.0
rust_program old ruff==0.17.5
rust_program new ruff==0.17.6
go_program old github.com/google/go-containerregistry/cmd/crane@v0.22.0
go_program new github.com/google/go-containerregistry/cmd/crane@v0.22.1
for version in old new; do
    for image in python node tools; do ln -sf ../../debian/old/1.tar "$tars/$image/$version/1.tar"; done
    ln -sf ../../tools/old/3.tar "$tars/debian/$version/2.tar"
done

for version in 1.26.8 1.27.1; do
    GOTOOLCHAIN=go$version GOFLAGS=-mod=readonly go build -C "$here/gzip" -trimpath -o "$tools/gzip-${version%.*}" .
done
for storage in near far; do
    [[ ! -e $folder/$storage/complete ]] || continue
    rm -rf "${folder:?}/$storage"
    mkdir "$folder/$storage"
    port=$(free_port)
    serve "$folder/$storage" "$port"
    process=$served
    versions=(old)
    [[ $storage == far ]] || versions+=(new)
    for writer in "${writers[@]}"; do
        for image in "${images[@]}"; do
            for version in "${versions[@]}"; do
                echo "$storage: $writer/$image:$version" >&2
                image "$writer" "$image" "$version" "$work/image"
                put "$work/image" "$writer/$image:$version"
                rm -rf "$work/image"
            done
        done
    done
    stop "$process"
    process=''
    touch "$folder/$storage/complete"
done
du --summarize --human-readable --dereference "$tars" >&2
