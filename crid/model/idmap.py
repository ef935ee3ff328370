"""Which users and groups of the host stand behind those of a user namespace (user_namespaces(7)).

The CRI has one range for users and one for groups, and each begins at the container's root. So a mapping is four numbers,
and an id is translated by adding.
"""

from dataclasses import dataclass

from crid.cri import api_pb2 as cri


@dataclass(frozen=True, slots=True)
class IdRange:
    """`length` ids, from 0 in the namespace and from `host` on the host."""

    host: int
    length: int

    def to_kernel(self) -> str:
        """Return the line for /proc/PID/uid_map or gid_map."""
        return f"0 {self.host} {self.length}"

    def to_oci(self) -> list[dict[str, int]]:
        """Return the OCI spec's `linux.uidMappings` or `gidMappings`."""
        return [{"containerID": 0, "hostID": self.host, "size": self.length}]

    def to_cri(self) -> cri.IDMapping:
        """Return the message that asks for this range."""
        return cri.IDMapping(container_id=0, host_id=self.host, length=self.length)


@dataclass(frozen=True, slots=True)
class IdMap:
    """The ranges of users and groups."""

    users: IdRange
    groups: IdRange

    def to_host(self, user: int, group: int) -> tuple[int, int]:
        """Return who `user` and `group` inside are on the host; ids that are not mapped stay as they are."""
        return (
            user + self.users.host if user < self.users.length else user,
            group + self.groups.host if group < self.groups.length else group,
        )

    @property
    def root(self) -> tuple[int, int]:
        """The user and the group of the host that are root inside."""
        return self.users.host, self.groups.host
