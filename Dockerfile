# kharon in a container: one static binary in an otherwise empty root (docs/container.md).
#
#   docker build -t kharon .
#   docker run -i --rm kharon make-payload python:3.9 > payload.zip

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock README.md ./
COPY src src
# Only an explicit --target keeps the flag from build scripts and procedural macros.
RUN target="$(uname -m)-unknown-linux-gnu" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --bin kharon --target "$target" \
    && mkdir -p /root-of-image/etc/ssl/certs \
    && mkdir -m 1777 /root-of-image/tmp /root-of-image/data \
    && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ \
    && cp "target/$target/dist/kharon" /root-of-image/kharon

FROM scratch
LABEL org.opencontainers.image.title="kharon" \
      org.opencontainers.image.description="Carries container images across an air gap" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /root-of-image/ /
# Nobody; `docker run --user` names whoever owns a folder that is mounted at /data.
USER 65532:65532
WORKDIR /data
ENV HOME=/data
ENTRYPOINT ["/kharon"]
CMD ["--help"]
