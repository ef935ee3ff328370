"""A seccomp profile that is an OCI artifact, for a container that asks for it by annotation instead of by its config.

The annotation's value is then a name, as of an image; what is not here is pulled. The artifact's only file is the profile: it
is a file of this machine as soon as the artifact is here, and so goes on as if the annotation had said localhost/PATH.
"""

from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.lifecycle.parts import Parts
from crid.lifecycle.spec_inputs import workload_host
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec import asked, seccomp

ARTIFACT_TYPE = "application/vnd.cncf.seccomp-profile"
"""How the artifact's type, or the media type of its configuration, begins."""


async def fetch(parts: Parts, sandbox: SandboxMetadata, config: cri.ContainerConfig) -> str:
    """Return the file with the profile that `config` asks for so, empty if it does not.

    Raises what a pull does, PermissionDeniedError by the signature policy, FailedPreconditionError for another artifact.
    """
    rules = workload_host(parts.hosts[parts.runtime.resolve(sandbox.runtime_handler)], sandbox.config).policy
    pod = sandbox.config
    value = asked.of_container(rules, pod.annotations, config.annotations, config.metadata.name).seccomp
    security = config.linux.security_context
    if not value or security.privileged or seccomp.is_word(value):
        return ""
    if seccomp.wanted(security)[0] != cri.SecurityProfile.Unconfined:
        return ""
    try:
        return str(await parts.images.artifact_file(value, ARTIFACT_TYPE, pod.metadata.namespace))
    except CridError as error:
        raise type(error)(f"annotation {seccomp.ANNOTATION}: {error}") from error
