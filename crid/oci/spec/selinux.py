"""SELinux labels of a container: `process.selinuxLabel` and `linux.mountLabel`.

A label is USER:ROLE:TYPE:LEVEL. The CRI's SELinuxOption sets any of the four, for the container or, where that says
nothing, for its pod; the rest are the defaults of container-selinux, the policy that CRI-O and Podman use, too. A level
that nobody sets is the pod's own: two categories, which keep its containers from the files of other pods (MCS). They are
derived from the pod's id, so all its containers have the same ones, after a restart of the daemon, too.
"""

import hashlib
import re
from dataclasses import dataclass

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError

PROCESS_TYPE = "container_t"
PRIVILEGED_TYPE = "spc_t"
FILE_TYPE = "container_file_t"
LAYER_LABEL = "system_u:object_r:container_ro_file_t:s0"
"""What the files of images bear on disk: all containers may read and execute them."""
LEVEL_OF_ALL = "s0"
"""The level without categories. A privileged container has it: its type is exempt from their rule."""
CATEGORIES = 1024

_WORD = re.compile(r"[A-Za-z0-9_.]{1,128}")
_RANGE = r"c[0-9]{1,4}(?:\.c[0-9]{1,4})?"
_SENSITIVITY = rf"s[0-9]{{1,2}}(?::{_RANGE}(?:,{_RANGE})*)?"
_LEVEL = re.compile(rf"{_SENSITIVITY}(?:-{_SENSITIVITY})?")
_CATEGORY = re.compile(r"c([0-9]+)")


@dataclass(frozen=True, slots=True)
class Labels:
    """What a container's processes run as, and what its files bear."""

    process: str
    mount: str

    @property
    def process_type(self) -> str:
        """The type of `process`."""
        return self.process.split(":")[2]


def check(option: cri.SELinuxOption) -> None:
    """Refuse what can be no label on any host. Raises InvalidArgumentError naming the field."""
    field = "security_context.selinux_options"
    for name in ("user", "role", "type"):
        value = getattr(option, name)
        if value and not _WORD.fullmatch(value):
            raise InvalidArgumentError(f"{field}.{name}: {value[:64]!r} is no SELinux {name}")
    level = option.level
    if level and not (_LEVEL.fullmatch(level) and all(int(number) < CATEGORIES for number in _CATEGORY.findall(level))):
        raise InvalidArgumentError(f"{field}.level: {level[:64]!r} is no SELinux level such as s0:c4,c5")


def labels(security: cri.LinuxContainerSecurityContext, pod: cri.LinuxSandboxSecurityContext, sandbox_id: str) -> Labels:
    """Return the labels for a container. Raises InvalidArgumentError for a malformed option."""
    option = security.selinux_options if security.HasField("selinux_options") else pod.selinux_options
    check(option)
    level = option.level or pod_level(sandbox_id)
    kind, process_level = PROCESS_TYPE, level
    if security.privileged:
        kind, process_level = PRIVILEGED_TYPE, option.level or LEVEL_OF_ALL
    return Labels(
        process=f"{option.user or 'system_u'}:{option.role or 'system_r'}:{option.type or kind}:{process_level}",
        mount=f"{option.user or 'system_u'}:object_r:{FILE_TYPE}:{level}",
    )


def pod_level(sandbox_id: str) -> str:
    """Return the level that the pod has where nobody names one: two different categories, the lower one first."""
    number = int.from_bytes(hashlib.sha256(sandbox_id.encode()).digest()[:8])
    first = number % CATEGORIES
    second = (first + 1 + (number // CATEGORIES) % (CATEGORIES - 1)) % CATEGORIES
    low, high = sorted((first, second))
    return f"s0:c{low},c{high}"
