"""SELinux labels on what a container is given: its root file system, the pod's files, and volumes that ask for it.

On a host without SELinux, or where the configuration leaves it off, there are none.
"""

import os

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle.parts import Parts
from crid.linux import selinux
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec.selinux import Labels, check, labels

_HOSTS = "/ /bin /boot /dev /etc /home /lib /lib64 /opt /proc /root /run /sbin /srv /sys /tmp /usr /var /var/lib /var/log"
NEVER_RELABELLED = frozenset(_HOSTS.split())
"""Directories that the host itself lives in: with a container's label its own services could not use them."""


def of(parts: Parts, sandbox: SandboxMetadata, config: cri.ContainerConfig) -> Labels | None:
    """Return the container's labels, None if it gets none. Raises InvalidArgumentError for a malformed option, in any case."""
    security, pod = config.linux.security_context, sandbox.config.linux.security_context
    for option in (security.selinux_options, pod.selinux_options):
        check(option)
    host = parts.hosts[parts.runtime.resolve(sandbox.runtime_handler)]
    if not host.selinux or (host.policy.host_network_without_selinux and not sandbox.namespaces.net):
        return None
    return labels(security, pod, sandbox.id)


def apply(sandbox: SandboxMetadata, config: cri.ContainerConfig, chosen: Labels) -> None:
    """Label the pod's files, and those volumes whose mount asks for it (`selinux_relabel`). Blocks as long as they are large.

    Raises InvalidArgumentError naming a volume that cannot be labelled.
    """
    for path in (sandbox.resolv_conf, sandbox.hostname_file, sandbox.hosts_file):
        selinux.set_label(str(path), chosen.mount)
    if sandbox.namespaces.ipc:
        selinux.set_label(str(sandbox.shm_path), chosen.mount)
    for index, mount in enumerate(config.mounts):
        if not mount.selinux_relabel or not mount.host_path:
            continue
        volume = os.path.realpath(mount.host_path)
        if volume in NEVER_RELABELLED:
            raise InvalidArgumentError(f"mounts[{index}].selinux_relabel: {volume} belongs to the host")
        try:
            selinux.set_labels_below(volume, chosen.mount)
        except OSError as error:
            raise InvalidArgumentError(f"mounts[{index}].selinux_relabel: {error}") from error
