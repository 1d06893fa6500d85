# syntax=docker/dockerfile:1
# One image for gateway, controller and sidecar: one static binary, roots for TLS, and nobody to run it as.
#
#   docker build -t sidetrack .
#   docker buildx build --platform linux/amd64,linux/arm64 -t ghcr.io/sidetrack-dev/sidetrack:0.1.0 --push .

# Alpine's Rust builds for musl, whose binaries are static by default.
FROM rust:1.95.0-alpine AS build
RUN apk add --no-cache cmake gcc g++ make musl-dev perl linux-headers
WORKDIR /src
COPY . .
# Three builds and a load between them: see benches/pgo.sh.
# The caches stay with the builder; what leaves it is copied out of them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    benches/pgo.sh --locked --features kubernetes && \
    cp target/dist/sidetrack /sidetrack && \
    # A binary that wants a loader would not start in the next stage.
    ! readelf -l /sidetrack | grep -q INTERP

# What sets up a pod's network beside a sidecar needs nft, or iptables where the kernel is old:
#   docker build --target init -t sidetrack-init .
FROM alpine:3.22 AS init
LABEL org.opencontainers.image.title="Sidetrack: redirect of a pod's traffic" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/sidetrack-dev/sidetrack"
RUN apk add --no-cache nftables iptables iptables-legacy
COPY --from=build /sidetrack /usr/local/bin/sidetrack
ENTRYPOINT ["/usr/local/bin/sidetrack"]
CMD ["init"]

FROM gcr.io/distroless/static-debian12:nonroot
LABEL org.opencontainers.image.title="Sidetrack" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/sidetrack-dev/sidetrack"
COPY --from=build /sidetrack /usr/local/bin/sidetrack
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/sidetrack"]
CMD ["--help"]
