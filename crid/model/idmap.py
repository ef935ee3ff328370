"""Which users and groups of the host stand behind those of a user namespace (user_namespaces(7)).

The CRI has one range for users and one for groups, and each begins at the container's root. A pod's annotation and the
configuration may have several, none of which overlaps another on either side.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from crid.cri import api_pb2 as cri

ID_LIMIT = 2**32 - 1
"""The first number that is no id: (uid_t)-1."""
MAX_RANGES = 100
"""The most ranges that crid takes for users or for groups: the kernel wants all of them in less than a page."""


class Origin(StrEnum):
    """Whose choice a range of a map was, and with it what may be made of its numbers."""

    GIVEN = "given"
    """The client's or the configuration's. Other pods may have the same ids."""
    HOST = "host"
    """A pod's that asked by annotation for ids of the host: whoever asks to run as one of them means the host's number."""
    ALLOCATED = "allocated"
    """crid's. No other pod has any of these ids while this one exists."""


@dataclass(frozen=True, slots=True)
class IdRange:
    """`length` ids, from `host` on the host and from `inside` in the namespace."""

    host: int
    length: int
    inside: int = 0
    origin: Origin = field(default=Origin.GIVEN, compare=False)


@dataclass(frozen=True, slots=True)
class IdRanges:
    """All ranges for users, or for groups."""

    ranges: tuple[IdRange, ...]

    def to_host(self, inside: int) -> int | None:
        """Return the host's id for the one `inside`, None if it is not mapped."""
        return next((each.host + inside - each.inside for each in self.ranges if 0 <= inside - each.inside < each.length), None)

    def from_host(self, host: int) -> int:
        """Return the id inside for `host`, if the pod asked for that one of the host's; any other is one inside already."""
        for each in self.ranges:
            if each.origin is Origin.HOST and 0 <= host - each.host < each.length:
                return each.inside + host - each.host
        return host

    def mapped_twice(self) -> int | None:
        """Return an id, inside or on the host, that two of the ranges have; the kernel takes no such map."""
        for side in ([each.inside for each in self.ranges], [each.host for each in self.ranges]):
            ordered = sorted(zip(side, (each.length for each in self.ranges), strict=True))
            for (start, length), (following, _) in pairwise(ordered):
                if start + length > following:
                    return following
        return None

    def to_kernel(self) -> str:
        """Return the text for /proc/PID/uid_map or gid_map."""
        return "\n".join(f"{each.inside} {each.host} {each.length}" for each in self.ranges)

    def to_oci(self) -> list[dict[str, int]]:
        """Return the OCI spec's `linux.uidMappings` or `gidMappings`."""
        return [{"containerID": each.inside, "hostID": each.host, "size": each.length} for each in self.ranges]

    def to_cri(self) -> list[cri.IDMapping]:
        """Return the messages that ask for these ranges."""
        return [cri.IDMapping(container_id=each.inside, host_id=each.host, length=each.length) for each in self.ranges]


@dataclass(frozen=True, slots=True)
class IdMap:
    """The ranges of users and of groups."""

    users: IdRanges
    groups: IdRanges

    @classmethod
    def of(cls, users: IdRange, groups: IdRange) -> "IdMap":
        """Return the map of one range each."""
        return cls(IdRanges((users,)), IdRanges((groups,)))

    @classmethod
    def from_cri(cls, asked: cri.UserNamespace) -> "IdMap":
        """Return the map that `asked`, which is known to make sense, has."""

        def ranges(mappings: Iterable[cri.IDMapping]) -> IdRanges:
            return IdRanges(tuple(IdRange(each.host_id, each.length, each.container_id) for each in mappings))

        return cls(ranges(asked.uids), ranges(asked.gids))

    def to_cri(self) -> cri.UserNamespace:
        """Return the message that asks for this map."""
        return cri.UserNamespace(mode=cri.NamespaceMode.POD, uids=self.users.to_cri(), gids=self.groups.to_cri())

    def to_host(self, user: int, group: int) -> tuple[int, int]:
        """Return who `user` and `group` inside are on the host; ids that are not mapped stay as they are."""
        users, groups = self.users.to_host(user), self.groups.to_host(group)
        return user if users is None else users, group if groups is None else groups

    @property
    def root(self) -> tuple[int, int]:
        """The user and the group of the host that are root inside."""
        return self.to_host(0, 0)
