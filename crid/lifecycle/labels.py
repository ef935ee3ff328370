"""SELinux labels on what a container is given: its root file system, the pod's files, and volumes that ask for it.

On a host without SELinux, or where the configuration leaves it off, there are none.
"""

import errno
import logging

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnavailableError
from crid.lifecycle.parts import Parts
from crid.linux import selinux
from crid.log import fields
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec import client_mounts
from crid.oci.spec.inputs import SpecInputs
from crid.oci.spec.selinux import LAYER_LABEL, PRIVILEGED_TYPE, Labels, check, labels

logger = logging.getLogger(__name__)

_HOSTS = "/ /bin /boot /dev /etc /home /lib /lib64 /opt /proc /root /run /sbin /srv /sys /tmp /usr /var /var/lib /var/log"
NEVER_RELABELLED = frozenset(_HOSTS.split())
"""Directories that the host itself lives in: with a container's label its own services could not use them."""

PATIENCE = 3600.0
"""Seconds for the labels of a container's volumes, which may have millions of files."""


def of(parts: Parts, sandbox: SandboxMetadata, config: cri.ContainerConfig) -> Labels | None:
    """Return the container's labels, None if it gets none. Raises InvalidArgumentError for a malformed option, in any case."""
    security, pod = config.linux.security_context, sandbox.config.linux.security_context
    for option in (security.selinux_options, pod.selinux_options):
        check(option)
    host = parts.hosts[parts.runtime.resolve(sandbox.runtime_handler)]
    if not host.selinux or (host.policy.host_network_without_selinux and not sandbox.namespaces.net):
        return None
    return labels(security, pod, sandbox.id)


def prepare_layers(directory: str) -> None:
    """Give the directory of the images' layers, and what is in it, the label under which containers may read it.

    What an overlay shows bears the container's label, but what of it is mapped into memory counts by its own. Files that
    come later inherit the directory's, so this takes long at most once. Raises UnavailableError if the policy does not
    know the label.
    """
    if selinux.label_of(directory) == LAYER_LABEL:
        return
    logger.info("labelling the images' layers%s", fields(directory=directory, label=LAYER_LABEL))
    try:
        selinux.set_labels_below(directory, LAYER_LABEL)
    except OSError as error:
        raise UnavailableError(f"crid.runtime.selinux: images' layers cannot be labelled {LAYER_LABEL}: {error}") from error


def apply(sandbox: SandboxMetadata, inputs: SpecInputs, chosen: Labels) -> None:
    """Label the pod's files, and those volumes whose mount asks for it (`selinux_relabel`). Blocks as long as they are large.

    A container of the type that may use everything needs no labels, and others may need those that are there. A file system
    without labels has the one of its mount. Raises InvalidArgumentError naming a volume that cannot be labelled.
    """
    for path in (sandbox.resolv_conf, sandbox.hostname_file, sandbox.hosts_file):
        selinux.set_label(str(path), chosen.mount)
    if sandbox.namespaces.ipc:
        selinux.set_label(str(sandbox.shm_path), chosen.mount)
    for source in inputs.given_mounts.values():
        selinux.set_labels_below(source, chosen.mount)
    for index, mount in enumerate(inputs.config.mounts):
        if not mount.selinux_relabel or not mount.host_path or chosen.process_type == PRIVILEGED_TYPE:
            continue
        volume = inputs.sources[mount.host_path]
        if client_mounts.is_for_logs(mount, inputs):
            volume = sandbox.config.log_directory
        if volume in NEVER_RELABELLED:
            raise InvalidArgumentError(f"mounts[{index}].selinux_relabel: {volume} belongs to the host")
        try:
            if inputs.asked.skip_relabel and selinux.label_of(volume) == chosen.mount:
                continue
            selinux.set_labels_below(volume, chosen.mount)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise InvalidArgumentError(f"mounts[{index}].selinux_relabel: {error}") from error
