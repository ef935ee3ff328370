"""Which AppArmor profile confines a container: `process.apparmorProfile`.

Where the field `apparmor` is set it decides, else the older string `apparmor_profile`. Asking for nothing means the
runtime's default profile, where the host has AppArmor and the daemon has loaded one. A privileged container has none.

crid's own default profile stands beside this file, in the language of apparmor.d(5); the daemon loads it.
"""

from importlib import resources

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.oci.spec.inputs import Host

DEFAULT_PROFILE = "crid-default"
"""The name of crid's own profile."""

_PREFIX = "localhost/"


def default_profile() -> str:
    """Return the text of crid's own profile."""
    return resources.files(__package__).joinpath("apparmor_default.profile").read_text(encoding="utf-8")


def localhost(security: cri.LinuxContainerSecurityContext) -> str:
    """Return the name of the loaded profile that the container asks for, "" if it asks for none by name.

    Raises InvalidArgumentError if what is asked for is nothing that the API knows.
    """
    wanted = "" if security.privileged else _wanted(security)
    if wanted in ("", "runtime/default", "unconfined"):
        return ""
    if not wanted.startswith(_PREFIX) or wanted == _PREFIX:
        raise InvalidArgumentError(
            f"security_context.apparmor_profile: {wanted[:64]!r} is not runtime/default, unconfined or localhost/NAME"
        )
    return wanted.removeprefix(_PREFIX)


def build(security: cri.LinuxContainerSecurityContext, host: Host, loaded: frozenset[str]) -> str:
    """Return the profile's name, "" for none; `loaded` has the profiles that the kernel knows, if `localhost` names one.

    Raises FailedPreconditionError if a profile is asked for that this host cannot apply.
    """
    if name := localhost(security):
        if not host.apparmor:
            raise FailedPreconditionError(f"security_context.apparmor: {name[:64]!r}: this host has no AppArmor")
        if name not in loaded:
            raise FailedPreconditionError(f"security_context.apparmor: profile {name[:128]!r} is not loaded")
        return name
    if security.privileged or not host.apparmor or (wanted := _wanted(security)) == "unconfined":
        return ""
    if wanted and not (host.apparmor_default_profile or host.apparmor_disabled):
        raise FailedPreconditionError("security_context.apparmor: the default profile could not be loaded (see crid's log)")
    return host.apparmor_default_profile


def _wanted(security: cri.LinuxContainerSecurityContext) -> str:
    return _from_profile(security.apparmor) if security.HasField("apparmor") else security.apparmor_profile


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
