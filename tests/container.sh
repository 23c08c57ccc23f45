#!/usr/bin/env bash
# The container image: what Dockerfile's last stage makes of a static binary, built and run by Docker's engine, with
# payloads through stdin and stdout and in a folder that is mounted. No base image is pulled: the stage that compiles
# is left out, and the binary is the one that tests/static_binary.sh built, or $KHARON_STATIC_BINARY.
#
# Needs root, docker, dockerd, docker-registry, skopeo and curl. Starts an engine with a store of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/servers.sh

((EUID == 0)) || die "dockerd needs root"
need docker dockerd docker-registry skopeo curl
binary=${KHARON_STATIC_BINARY:-${KHARON_STATIC_TARGET_DIR:-target/static}/$(uname -m)-unknown-linux-gnu/dist/kharon}
[[ -x $binary ]] || die "no static binary at $binary: run tests/static_binary.sh first"

export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config
dockerd --data-root "$work/root" --exec-root "$work/exec" --pidfile "$work/docker.pid" -H "$DOCKER_HOST" \
    --storage-driver vfs --iptables=false --ip6tables=false --bridge=none --ip-forward=false --ip-masq=false \
    > "$work/dockerd.log" 2>&1 &
servers+=($!)
until_well docker version

registries=()
for name in near far; do
    port=$(free_port)
    cat > "$work/$name.yml" <<END
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: '$work/$name'}
http: {addr: '127.0.0.1:$port'}
END
    docker-registry serve "$work/$name.yml" > "$work/$name.log" 2>&1 &
    servers+=($!)
    until_well curl -fsS "http://127.0.0.1:$port/v2/"
    registries+=("127.0.0.1:$port")
done
near=${registries[0]} far=${registries[1]}
for tag in v1 v2; do
    skopeo --insecure-policy copy -q --all --dest-tls-verify=false "oci:fixtures/quickstart:$tag" "docker://$near/worldclock:$tag"
done

# The last stage as it stands, with files of this folder in the place of the stage before.
root=$work/context/root-of-image
mkdir -p "$root/etc/ssl/certs"
mkdir -m 1777 "$root/tmp" "$root/data"
cp "$binary" "$root/kharon"
cp fixtures/tls/authority.crt "$root/etc/ssl/certs/ca-certificates.crt"
sed -n '/^FROM scratch/,$p' Dockerfile | sed 's|^COPY --from=build /|COPY |' > "$work/context/Dockerfile"
docker build -q -t kharon "$work/context" > "$work/build.log"
docker image inspect -f '{{.Config.User}}' kharon | grep -qx 65532:65532 || die "expected the user 65532"

run=(docker run -i --rm --network host kharon)
"${run[@]}" --version | grep -q '^kharon ' || die "no version"
"${run[@]}" make-payload -q -i -r "$near" worldclock:v1 > "$work/first.zip"
"${run[@]}" push-payload -q -i -r "$far" < "$work/first.zip" > "$work/pushed"
# The mounted folder belongs to somebody else, who is named.
mkdir "$work/data"
mv "$work/first.zip" "$work/data"
chown -R 1234:1234 "$work/data"
mounted=(docker run -i --rm --network host --user 1234:1234 -v "$work/data:/data" kharon)
"${mounted[@]}" make-payload -q -i -r "$near" -f second.zip --against first.zip worldclock:v2 2> "$work/second.log"
# Deltas were made, in a folder for temporary files.
[[ ! -s $work/second.log ]] || die "expected no message, found $(cat "$work/second.log")"
[[ $(stat -c %u "$work/data/second.zip") == 1234 ]] || die "expected second.zip to belong to 1234"
"${mounted[@]}" push-payload -q -i -r "$far" -f second.zip >> "$work/pushed"
printf 'worldclock:v1\nworldclock:v2\n' | diff - "$work/pushed"
for tag in v1 v2; do
    digests=()
    for host in "$near" "$far"; do
        digests+=("$(skopeo inspect --tls-verify=false --raw "docker://$host/worldclock:$tag" | sha256sum)")
    done
    [[ ${digests[0]} == "${digests[1]}" ]] || die "expected the same $tag at both ends, found ${digests[*]}"
done

# Exit codes come through, and nothing but a payload goes to stdout.
status=0
"${run[@]}" make-payload -i -r "$near" worldclock:none > "$work/none.zip" 2> "$work/none.log" || status=$?
((status == 3)) || die "expected exit code 3 for an image that is not there, found $status"
[[ ! -s $work/none.zip ]] || die "expected nothing on stdout where nothing is to be had"
# A stopped container ends as a signal ends the command: soon, and with its exit code.
name=kharon-$$
docker run -d --name "$name" --network host --user 1234:1234 -v "$work/data:/data" kharon serve --dir /data/layout --listen "127.0.0.1:$(free_port)" > "$work/id"
sleep 1
docker stop -t 20 "$name" > "$work/stop.log"
code=$(docker inspect -f '{{.State.ExitCode}}' "$name")
[[ $code == 0 || $code == 143 ]] || die "expected docker stop to end the registry, found exit code $code: $(docker logs "$name" 2>&1)"

# What a pull of it brings, as a registry holds it.
docker tag kharon "$near/kharon:test"
docker push -q "$near/kharon:test" > "$work/push.log"
size=$(skopeo inspect --tls-verify=false --raw "docker://$near/kharon:test" | grep -oE '"size": *[0-9]+' | awk '{ sum += $2 } END { print sum }')
megabytes=$(grep -oE 'container image \(less than [0-9]+ MB to pull\)' README.md | grep -oE '[0-9]+')
((size < megabytes * 1000000)) || die "README.md says less than $megabytes MB to pull, found $size bytes"
echo "container image: $size bytes to pull, 2 images the same at both ends"
