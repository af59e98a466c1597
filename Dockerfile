# An image that holds one static binary and nothing else. From the root of a checkout:
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t IMAGE \
#     --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
#     --build-arg GLOBALDNS_COMMIT="$(git rev-parse --short=12 HEAD)" .
#   docker buildx build --target sbom --output . .    # sbom.cdx.json
#
# glibc and not musl: every figure in README.md was measured with glibc's allocator. Linked statically, it needs no
# file at run time but /etc/resolv.conf, and that only to look up an API server that is given by name.

ARG RUST_VERSION=1.95.0
ARG DEBIAN_RELEASE=bookworm
# sha256:… of the base image, to build the same octets again: tags move.
ARG RUST_DIGEST=

# Compiles on the machine's own architecture, for the other one with Debian's cross compiler.
FROM --platform=${BUILDPLATFORM} docker.io/library/rust:${RUST_VERSION}-${DEBIAN_RELEASE}${RUST_DIGEST:+@${RUST_DIGEST}} AS build
ARG TARGETARCH
RUN set -eu; \
    if [ "${TARGETARCH}" != "$(dpkg --print-architecture)" ]; then \
        case "${TARGETARCH}" in \
            amd64) packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross"; triple=x86_64-unknown-linux-gnu ;; \
            arm64) packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; triple=aarch64-unknown-linux-gnu ;; \
        esac; \
        apt-get update; \
        apt-get install -y --no-install-recommends ${packages}; \
        rm -rf /var/lib/apt/lists/*; \
        rustup target add "${triple}"; \
    fi
WORKDIR /src
COPY . .
ARG SOURCE_DATE_EPOCH=0
ARG GLOBALDNS_COMMIT=
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} GLOBALDNS_COMMIT=${GLOBALDNS_COMMIT}
RUN deploy/image/build "${TARGETARCH}" release /out/globaldns \
 && deploy/image/root /out/globaldns /out/root \
 && deploy/image/sbom "${TARGETARCH}" > /out/sbom.cdx.json

FROM scratch AS sbom
COPY --from=build /out/sbom.cdx.json /

FROM scratch
ARG GLOBALDNS_VERSION=0.1.0
ARG GLOBALDNS_COMMIT=
LABEL org.opencontainers.image.title="globaldns" \
      org.opencontainers.image.description="Authoritative DNS for *.global and *.<cluster>, from Istio ServiceEntries" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${GLOBALDNS_VERSION}" \
      org.opencontainers.image.revision="${GLOBALDNS_COMMIT}"
COPY --from=build /out/root/ /
# By number: Kubernetes' runAsNonRoot cannot look up a name, and there is no /etc/passwd.
USER 65532:65532
# For `kubectl exec deploy/globaldns -- globaldns stub-domains status`.
ENV PATH=/usr/local/bin
EXPOSE 53/udp 53/tcp 9153/tcp
ENTRYPOINT ["/usr/local/bin/globaldns"]
CMD ["serve"]
