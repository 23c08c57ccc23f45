#!/usr/bin/env bash
# The fully static binary: builds it, and carries an image with it from and to registries on this
# machine inside of an empty root that holds nothing but the binary, resolv.conf, hosts and the
# certificate authorities. The far registry speaks TLS and is called by name, so that names are
# resolved and the authorities of the system are read there.
#
# Needs root for chroot, docker-registry, curl and file. Builds into target/static, or into
# $KHARON_STATIC_TARGET_DIR; KHARON_STATIC_BINARY names a binary to test instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/servers.sh

((EUID == 0)) || die "chroot needs root"
need docker-registry curl file

target=x86_64-unknown-linux-gnu
binary=${KHARON_STATIC_BINARY:-}
if [[ -z $binary ]]; then
    folder=${KHARON_STATIC_TARGET_DIR:-target/static}
    # Only an explicit --target keeps the flag from build scripts and procedural macros, which must
    # be loaded dynamically.
    RUSTFLAGS="-C target-feature=+crt-static" nice cargo build --locked --profile dist \
        --target "$target" --target-dir "$folder"
    binary=$folder/$target/dist/kharon
fi

file "$binary" | grep -Eq 'static-pie linked|statically linked' || die "$(file "$binary")"
! ldd "$binary" 2>&1 | grep -q '=>' || die "$binary has dynamic dependencies: $(ldd "$binary")"

root=$work/root
mkdir -p "$root"/{etc/ssl/certs,data}
cp "$binary" "$root/kharon"
cp /etc/resolv.conf "$root/etc/resolv.conf"
echo "127.0.0.1 localhost" > "$root/etc/hosts"
cp fixtures/tls/authority.crt "$root/etc/ssl/certs/ca-certificates.crt"

# In the empty root, with an empty environment. No function: a server that runs in the background
# must be our own child, to be ended with us.
kharon=(env -i HOME=/ "$(command -v chroot)" "$root" /kharon)

# answers URL: waits until something answers there.
answers() { until_well curl -ksSo "$work/answer" "$1"; }

# A folder's own name is the repository that `kharon serve` gives its tags.
cp -r fixtures/quickstart "$root/worldclock"
near=127.0.0.1:$(free_port)
"${kharon[@]}" serve --dir /worldclock --listen "$near" 2> "$work/near.log" &
servers+=($!)
answers "http://$near/v2/"

port=$(free_port)
far=localhost:$port
cat > "$work/far.yml" <<END
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: '$work/far'}
http:
  addr: '127.0.0.1:$port'
  tls: {certificate: '$PWD/fixtures/tls/server.cert', key: '$PWD/fixtures/tls/server.key'}
END
docker-registry serve "$work/far.yml" > "$work/far.log" 2>&1 &
servers+=($!)
answers "https://127.0.0.1:$port/v2/"

"${kharon[@]}" make-payload -q -r "$near" -f /data/first.zip worldclock:v1
"${kharon[@]}" push-payload -q -r "$far" -f /data/first.zip > "$work/pushed.log"
# There is no folder for temporary files but the one that is named.
"${kharon[@]}" make-payload -q -r "$near" -f /data/raw.zip --against /data/first.zip worldclock:v2
"${kharon[@]}" make-payload -q -r "$near" -f /data/second.zip --against /data/first.zip --workdir /data worldclock:v2
"${kharon[@]}" push-payload -q -r "$far" -f /data/second.zip --workdir /data >> "$work/pushed.log"
printf 'worldclock:v1\nworldclock:v2\n' | diff - "$work/pushed.log"

# Every file of the fixture is a blob or a manifest of one of the two tags.
compared=0
for path in fixtures/quickstart/blobs/sha256/*; do
    digest=${path##*/}
    found=
    for kind in blobs manifests; do
        curl -fksS -H 'Accept: application/vnd.oci.image.index.v1+json' \
            -H 'Accept: application/vnd.oci.image.manifest.v1+json' -o "$work/content" \
            "https://127.0.0.1:$port/v2/worldclock/$kind/sha256:$digest" 2> "$work/curl.log" || continue
        found=$(sha256sum < "$work/content")
        break
    done
    [[ ${found%% *} == "$digest" ]] || die "expected sha256:$digest at the far side, found ${found:-nothing}"
    compared=$((compared + 1))
done
for tag in v1 v2; do
    digest() {
        curl -fksSI -H 'Accept: application/vnd.oci.image.index.v1+json' \
            -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
            "$1/v2/worldclock/manifests/$tag" | tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2 }'
    }
    expected=$(digest "http://$near") found=$(digest "https://127.0.0.1:$port")
    [[ -n $expected && $found == "$expected" ]] || die "expected $expected as $tag, found $found"
done

size=$(stat -c %s "$binary")
megabytes=$(grep -oE 'static binary for Linux \(less than [0-9]+ MB\)' README.md | grep -oE '[0-9]+')
((size < megabytes * 1000000 && size > (megabytes - 6) * 1000000)) \
    || die "README.md says less than $megabytes MB, found $size bytes"

echo "static binary: $size bytes, $compared digests the same at both ends"
