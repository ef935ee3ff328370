"""What the spec says about the container's place in Kubernetes, for tools that read the specs of running containers.

The names are containerd's, which such tools look for. The pod's and the container's own annotations are not passed on:
crun and runc obey some names (`run.oci.*`, `org.systemd.property.*`), so whoever writes a pod would reach the runtime.
A handler's configuration may allow some by name, and add its own.
"""

from crid.cri import api_pb2 as cri
from crid.oci.spec import policy
from crid.oci.spec.inputs import SpecInputs

PREFIX = "io.kubernetes.cri."


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
    rules = inputs.host.policy
    allowed = policy.allowed_annotations(
        rules.allowed_annotations, inputs.sandbox.config.annotations, inputs.config.annotations, rules.default_annotations
    )
    return {**allowed, **{PREFIX + name: value for name, value in own.items()}}
