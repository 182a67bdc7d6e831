# syntax=docker/dockerfile:1

FROM golang:1.26 AS builder
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
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w \
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

USER 65534:65534
EXPOSE 10065
ENTRYPOINT ["/port_exporter"]

# A container sees its own network. To see the host's sockets, it must share the
# host's network namespace:
#
#   docker run --network host --pid host --read-only --cap-drop ALL port_exporter
#
# --pid host is for naming the processes behind the sockets, and their users as
# the host names them (/proc/1/root/etc/passwd). That also requires root and two
# capabilities, since a container's other users are given none:
#
#   --user 0:0 --cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH
#
# and --security-opt apparmor=unconfined where Docker's AppArmor profile is on.
#
# To ping targets (prober: icmp), as root:
#
#   --user 0:0 --cap-add NET_RAW
