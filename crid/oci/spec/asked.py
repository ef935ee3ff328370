"""What a pod asks for by annotation, since the CRI has no field for it; each only where its runtime handler allows it.

Names and meanings are CRI-O's. Most have two names, `NAME.crio.io` and an older one; today's counts where both are there, and
a handler that lists either among its `allowed_annotations` allows both. What is for one container of the pod has `/CONTAINER`
after the name, and goes before what is for all of them: the name alone, or with `/POD`. Only of `unified-cgroup` the pod has
one itself: with `/POD` that is for the pod's own cgroup.

The name and the value of an annotation come from whoever wrote the pod: InvalidArgumentError names one that means nothing.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from crid.errors import InvalidArgumentError
from crid.oci.spec import policy, seccomp
from crid.oci.spec.policy import AskedDevice, Policy

CGROUP_WRITABLE = "cgroup2-mount-hierarchy-rw.crio.io"
DEVICES = "devices.crio.io"
DISABLE_FIPS = "disable-fips.crio.io"
LINK_LOGS = "link-logs.crio.io"
SECCOMP_NOTIFIER = "seccomp-notifier-action.crio.io"
SECCOMP_PROFILE = seccomp.ANNOTATION
SHM_SIZE = "shm-size.crio.io"
SKIP_RELABEL = "try-skip-volume-selinux-label.crio.io"
UMASK = "umask.crio.io"
UNIFIED = "unified-cgroup.crio.io"
USERNS_MODE = "userns-mode.crio.io"

OLDER = {
    CGROUP_WRITABLE: "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
    DEVICES: "io.kubernetes.cri-o.Devices",
    DISABLE_FIPS: "io.kubernetes.cri-o.DisableFIPS",
    LINK_LOGS: "io.kubernetes.cri-o.LinkLogs",
    SECCOMP_NOTIFIER: "io.kubernetes.cri-o.seccompNotifierAction",
    SECCOMP_PROFILE: "seccomp-profile.kubernetes.cri-o.io",
    SHM_SIZE: "io.kubernetes.cri-o.ShmSize",
    SKIP_RELABEL: "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
    UMASK: "io.kubernetes.cri-o.umask",
    UNIFIED: "io.kubernetes.cri-o.UnifiedCgroup",
    USERNS_MODE: "io.kubernetes.cri-o.userns-mode",
}
_BEGINNINGS = (*OLDER, *OLDER.values())

_FOR_ALL = ("/POD", "")
"""What comes after the name of an option that is for all of a pod's containers."""

_UMASK = re.compile(r"[0-7]{1,4}")
_VOLUME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A volume's name in Kubernetes: a label of RFC 1123."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for one container; the default is nothing."""

    umask: int | None = None
    unified: Mapping[str, str] = field(default_factory=dict)
    """Files of cgroup v2 for the container's cgroup, with their values, beside those of its config."""
    cgroup_writable: bool = False
    seccomp: str = ""
    """For a container whose config asks for no filter: runtime/default, unconfined, localhost/PATH, or an OCI artifact."""
    devices: tuple[AskedDevice, ...] = ()
    skip_relabel: bool = False
    """Whether a volume whose top directory has the right SELinux label is taken to have it everywhere."""
    disable_fips: bool = False
    link_logs: str = ""
    """The emptyDir volume of the pod in which the pod's logs are to be seen."""
    seccomp_notifier: str = ""
    """What becomes of a container that makes forbidden calls: "stop"; anything else: they are logged."""


NOTHING = Asked()


def of_container(rules: Policy, pod: Mapping[str, str], own: Mapping[str, str], name: str) -> Asked:
    """Return what the annotations of the `pod`, and the container's `own`, ask for the container `name`."""
    annotations = {**pod, **own}
    if not any(each.startswith(_BEGINNINGS) for each in annotations):  # most pods
        return NOTHING

    def value(option: str, *for_all: str) -> str:
        return _value(rules, annotations, option, (f"/{name}", f".{name}", *(for_all or _FOR_ALL)))

    return Asked(
        umask=_umask(value(UMASK)),
        unified=_unified(value(UNIFIED, "")),
        cgroup_writable=_flag(CGROUP_WRITABLE, value(CGROUP_WRITABLE)),
        seccomp=value(SECCOMP_PROFILE),
        devices=_devices(rules, value(DEVICES)),
        skip_relabel=_flag(SKIP_RELABEL, value(SKIP_RELABEL)),
        disable_fips=_flag(DISABLE_FIPS, value(DISABLE_FIPS)),
        link_logs=_volume(value(LINK_LOGS)),
        seccomp_notifier=value(SECCOMP_NOTIFIER),
    )


def shm_size(rules: Policy, pod: Mapping[str, str]) -> int:
    """Return the bytes that the pod asks for its /dev/shm, 0 if it does not."""
    value = _value(rules, pod, SHM_SIZE, _FOR_ALL)
    try:
        size = policy.size(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"annotation {SHM_SIZE}: {error}") from error
    if value and not size:
        raise _meaningless(SHM_SIZE, value, "must be more than 0")
    return size


def userns_mode(rules: Policy, pod: Mapping[str, str]) -> str:
    """Return the user namespace that the pod asks for, as it says it (crid.oci.spec.userns_request), "" if it does not."""
    return _value(rules, pod, USERNS_MODE, _FOR_ALL)


def cgroup_files(rules: Policy, pod: Mapping[str, str]) -> dict[str, str]:
    """Return the files of cgroup v2 that the pod asks for its own cgroup, with their values."""
    return _unified(_value(rules, pod, UNIFIED, ("/POD", ".POD")))


def _value(rules: Policy, annotations: Mapping[str, str], option: str, suffixes: tuple[str, ...]) -> str:
    """Return what is said under either name of `option`, with the first of the suffixes that is there, if it is allowed."""
    names = (option, OLDER[option])
    if not any(policy.allows(rules.allowed_annotations, name) for name in names):
        return ""
    for suffix in suffixes:
        for name in names:
            if name + suffix in annotations:
                return annotations[name + suffix]
    return ""


def _flag(option: str, value: str) -> bool:
    if value not in ("", "true", "false"):
        raise _meaningless(option, value, "is neither true nor false")
    return value == "true"


def _umask(value: str) -> int | None:
    if value and not _UMASK.fullmatch(value):
        raise _meaningless(UMASK, value, "is no umask such as 077")
    return int(value, 8) if value else None


def _volume(value: str) -> str:
    if value and not _VOLUME.fullmatch(value):
        raise _meaningless(LINK_LOGS, value, "is no name of a volume")
    return value


def _unified(value: str) -> dict[str, str]:
    """Parse `memory.high=1073741824;memory.oom.group=1`. A value may be in base64, as CRI-O has it."""
    found = {}
    for entry in value.split(";"):
        key, separator, text = entry.partition("=")
        if not entry.strip():
            continue
        if not separator:
            raise _meaningless(UNIFIED, entry, "is not FILE=VALUE")
        found[key.strip()] = _decoded(text)
    return found


def _decoded(text: str) -> str:
    """Return what `text` says in base64, or `text` itself: numbers and words of cgroup files decode to no text."""
    try:
        decoded = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return text
    return decoded if decoded.isprintable() and decoded else text


def _devices(rules: Policy, value: str) -> tuple[AskedDevice, ...]:
    """Parse devices separated by commas; each must be among the allowed ones."""
    found = []
    for part in value.split(","):
        if not part.strip():
            continue
        try:
            found.append(policy.device(part))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"annotation {DEVICES}: {error}") from error
        if found[-1].host_path not in rules.allowed_devices:
            raise InvalidArgumentError(f"annotation {DEVICES}: {found[-1].host_path} is not among allowed_devices")
    return tuple(found)


def _meaningless(option: str, value: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"annotation {option}: {value[:64]!r} {why}")
