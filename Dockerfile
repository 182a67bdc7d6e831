# syntax=docker/dockerfile:1

# The compiler runs on the machine that builds, whatever the image is for.
FROM --platform=$BUILDPLATFORM golang:1.26 AS builder
WORKDIR /src

# The modules change less often than the code: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG VERSION=unknown
ARG REVISION=unknown
ARG BRANCH=unknown
ARG BUILD_USER=unknown
ARG BUILD_DATE=unknown
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags "-s -w \
      -X github.com/prometheus/common/version.Version=${VERSION} \
      -X github.com/prometheus/common/version.Revision=${REVISION} \
      -X github.com/prometheus/common/version.Branch=${BRANCH} \
      -X github.com/prometheus/common/version.BuildUser=${BUILD_USER} \
      -X github.com/prometheus/common/version.BuildDate=${BUILD_DATE}" \
      -o /port_exporter .

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG BUILD_DATE=unknown
LABEL org.opencontainers.image.title="port_exporter" \
      org.opencontainers.image.description="Prometheus exporter for ports and sockets" \
      org.opencontainers.image.source="https://github.com/port-exporter/port_exporter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${BUILD_DATE}"

COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=builder /port_exporter /port_exporter

# Without privileges. docs/container.md has the flags with which it sees the host and
# names the owners of its sockets.
USER 65534:65534
EXPOSE 10065
ENTRYPOINT ["/port_exporter"]
# It does not know --web.listen-address and --web.config.file: see docs/container.md.
HEALTHCHECK --interval=30s --timeout=10s CMD ["/port_exporter", "check", "--quiet", "http://127.0.0.1:10065/-/healthy"]
