"""Which AppArmor profile confines a container: `process.apparmorProfile`.

Where the field `apparmor` is set it decides, else the older string `apparmor_profile`. Asking for nothing means the
runtime's default profile, where the host has AppArmor and the daemon has loaded one. A privileged container has none.
"""

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.oci.spec.inputs import Host

_PREFIX = "localhost/"


def build(security: cri.LinuxContainerSecurityContext, host: Host) -> str:
    """Return the profile's name, "" for none. Raises an error if a profile is named that this host cannot apply."""
    if security.privileged:
        return ""
    wanted = _from_profile(security.apparmor) if security.HasField("apparmor") else security.apparmor_profile
    if wanted == "unconfined":
        return ""
    if wanted in ("", "runtime/default"):
        return host.apparmor_default_profile if host.apparmor else ""
    if not wanted.startswith(_PREFIX) or wanted == _PREFIX:
        raise InvalidArgumentError(
            f"security_context.apparmor_profile: {wanted[:64]!r} is not runtime/default, unconfined or localhost/NAME"
        )
    if not host.apparmor:
        raise FailedPreconditionError(f"security_context.apparmor: {wanted[:64]!r}: this host has no AppArmor")
    return wanted.removeprefix(_PREFIX)


def _from_profile(profile: cri.SecurityProfile) -> str:
    """Return the older spelling of a SecurityProfile."""
    kinds = cri.SecurityProfile.ProfileType
    if profile.profile_type == kinds.RuntimeDefault:
        return "runtime/default"
    if profile.profile_type == kinds.Unconfined:
        return "unconfined"
    if profile.profile_type != kinds.Localhost:
        raise InvalidArgumentError(f"security_context.apparmor.profile_type: unknown type {profile.profile_type}")
    return _PREFIX + profile.localhost_ref.removeprefix(_PREFIX)
