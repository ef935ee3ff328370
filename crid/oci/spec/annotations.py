"""What the spec says about the container's place in Kubernetes, for tools that read the specs of running containers.

The names are containerd's, which such tools look for. The pod's and the container's own annotations are not passed on:
crun and runc obey some names (`run.oci.*`, `org.systemd.property.*`), so whoever writes a pod would reach the runtime.
A handler's configuration may allow some by name, and add its own. The pod's limits are there for the runtimes that size a
virtual machine by them.
"""

import json

from crid.cri import api_pb2 as cri
from crid.oci.spec import policy
from crid.oci.spec.inputs import SpecInputs

PREFIX = "io.kubernetes.cri."

POD_OVERHEAD, POD_RESOURCES = "pod-linux-overhead.crio.io", "pod-linux-resources.crio.io"
"""CRI-O's names for what the pod costs beside its containers, and for their limits together, as JSON."""


def build(inputs: SpecInputs) -> dict[str, str]:
    """Return the OCI spec's `annotations`."""
    pod: cri.PodSandboxMetadata = inputs.sandbox.config.metadata
    own = {
        "container-type": "container",
        "container-name": inputs.container_name or inputs.config.metadata.name,
        "image-name": inputs.config.image.user_specified_image or inputs.config.image.image,
        "sandbox-id": inputs.sandbox.id,
        "sandbox-name": pod.name,
        "sandbox-namespace": pod.namespace,
        "sandbox-uid": pod.uid,
    }
    linux = inputs.sandbox.config.linux
    limits = {
        name: json.dumps(_plain(resources))
        for name, resources in ((POD_OVERHEAD, linux.overhead), (POD_RESOURCES, linux.resources))
        if resources.ByteSize()
    }
    rules = inputs.host.policy
    allowed = policy.allowed_annotations(
        rules.allowed_annotations, inputs.sandbox.config.annotations, inputs.config.annotations, rules.default_annotations
    )
    return {**allowed, **limits, **{PREFIX + name: value for name, value in own.items()}}


def _plain(resources: cri.LinuxContainerResources) -> dict[str, object]:
    """Return the fields that are set, by their names in the API."""
    found: dict[str, object] = {}
    for field, value in resources.ListFields():
        if field.name == "hugepage_limits":
            value = [{"page_size": limit.page_size, "limit": limit.limit} for limit in value]
        found[field.name] = dict(value) if field.name == "unified" else value
    return found
