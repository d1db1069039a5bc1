# One static executable in an empty image:
#   docker build --build-arg VERSION=0.1.0 -t captcha:0.1.0 .
# amd64 and arm64; each is built on (or emulated as) its own architecture.

# The base is pinned by the digest of its index of platforms: a tag may be another image tomorrow. The digest of a newer one:
#   docker buildx imagetools inspect rust:1.95-slim-bookworm
# Change tag and digest together. The build's own frontend is Docker's (23 or newer): a `syntax` line would fetch another image.
FROM rust:1.95-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
# The allocator, jemalloc, is built with make, which the slim image lacks.
RUN apt-get update && apt-get install -y --no-install-recommends make=4.3-4.1 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    dev/static.sh /captcha

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="captcha" \
      org.opencontainers.image.description="Captcha events over HTTP and Kafka into ClickHouse, exactly once" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /captcha /captcha
USER 65532:65532
EXPOSE 8000 9090
ENTRYPOINT ["/captcha"]
