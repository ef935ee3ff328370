# Shared by the scripts; sourced, not run.

# say TEXT...: a progress line on stderr, with the seconds since the script began.
script_began=$(date +%s)
say() {
    printf '[%3ds] %s\n' "$(($(date +%s) - script_began))" "$*" >&2
}

# in_container_namespace COMMAND...: run COMMAND where Debian's crun works. On a cgroup v1 hybrid host that crun refuses to
# start while a cgroup2 mount is beside the v1 controllers, so the mount is hidden in a mount namespace of our own; the
# host's mounts stay as they are. What is mounted in its place takes up the files that crun writes there all the same.
in_container_namespace() {
    if mountpoint -q /sys/fs/cgroup/unified; then
        unshare -m --propagation private sh -c \
            'umount /sys/fs/cgroup/unified && mount -t tmpfs none /sys/fs/cgroup/unified && mount --make-rshared / && exec "$@"' \
            sh "$@"
    else
        unshare -m --propagation shared "$@"
    fi
}

# in_own_network COMMAND...: run COMMAND with a network of its own, empty but for lo: bridges, addresses and firewall rules
# that it makes cannot meet those of the host, and are gone with it.
in_own_network() {
    in_container_namespace unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$@"
}
