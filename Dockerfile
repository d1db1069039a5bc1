# syntax=docker/dockerfile:1
# One static executable in an empty image:
#   docker build --build-arg VERSION=0.1.0 -t captcha:0.1.0 .
# amd64 and arm64; each is built on (or emulated as) its own architecture.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# Naming the target, even the host's own, keeps crt-static away from build scripts and procedural macros.
# glibc 2.34 and later resolve names without loading a library, so the static binary needs nothing beside it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin captcha --target "$host" \
    && cp "target/$host/release/captcha" /captcha \
    && /captcha --help > /dev/null

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
