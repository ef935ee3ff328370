# crid in a container image, to try it on a machine with Docker or Podman:
#
#   docker build -t crid .
#   docker run --rm -it --privileged --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup -v crid:/var/lib/crid crid
#
# /var/lib/crid must be a volume: overlayfs cannot have its writable layers on the overlay file system of a container.

FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
# Versions and hashes of everything, build tools included, are in the lock file; the second environment takes from these
# wheels only what crid needs to run.
RUN python3 -m venv /build \
    && /build/bin/pip download --require-hashes --no-deps --dest /wheels -r requirements.lock \
    && /build/bin/pip install --no-index --no-deps /wheels/*
COPY . .
RUN /build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && python3 -m venv /opt/crid \
    && /opt/crid/bin/pip install --no-index --find-links /wheels crid

FROM debian:12
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 crun runc nftables iproute2 ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/crid /opt/crid
COPY etc/crid.conf /etc/crid/crid.conf
RUN ln -s /opt/crid/bin/crid /usr/local/bin/crid
VOLUME /var/lib/crid
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/crid"]
