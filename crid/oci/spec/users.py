"""Who the first process runs as: user, group and supplementary groups, from the CRI's fields and the image's own files.

Order: `run_as_user` or `run_as_username`, else the image's USER (`user`, `user:group`, names or numbers), else root. The
primary group is `run_as_group`, else the USER's group, else the user's group in the image's /etc/passwd, else 0. The
policy Merge adds the groups that list the user in the image's /etc/group; Strict takes only what the CRI says.

The primary group is always among the supplementary groups, too: a process could otherwise drop it and so pass a file
mode that denies the group (CVE-2022-2995, CVE-2022-36109).

passwd and group are texts of an image, so anything may stand in them. A line that is not well formed is no entry. Lines
end with a line feed only, as passwd(5) has it; str.splitlines would let an image hide entries behind other characters.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError

ID_LIMIT = 2**32 - 2
"""The largest user or group id; the one above means "none" to the kernel (chown(2), setresuid(2))."""

_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_MAX_GROUPS = 65536
"""NGROUPS_MAX, setgroups(2)."""


@dataclass(frozen=True, slots=True)
class User:
    """The resolved identity. `groups` has the primary group first; `home` is absolute."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str = "/"

    def to_oci(self) -> dict[str, object]:
        """Return the OCI spec's `process.user`."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.groups)}


def reported(user: Mapping[str, Any]) -> cri.ContainerUser:
    """Return the message for ContainerStatus.user of a finished `process.user`, to which devices may have added groups."""
    return cri.ContainerUser(
        linux=cri.LinuxContainerUser(uid=user["uid"], gid=user["gid"], supplemental_groups=user.get("additionalGids", ()))
    )


@dataclass(frozen=True, slots=True)
class _Account:
    """One line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str


def check(security: cri.LinuxContainerSecurityContext) -> None:
    """Refuse what contradicts itself or is no id, whatever the image. Raises InvalidArgumentError naming the field."""
    named_user = bool(security.run_as_username)
    numeric_user = security.HasField("run_as_user")
    if numeric_user and named_user:
        raise InvalidArgumentError("security_context: run_as_user and run_as_username are both set")
    if security.HasField("run_as_group") and not (numeric_user or named_user):
        raise InvalidArgumentError("security_context.run_as_group: needs run_as_user or run_as_username")
    if numeric_user:
        _checked(security.run_as_user.value, "security_context.run_as_user")
    if security.HasField("run_as_group"):
        _checked(security.run_as_group.value, "security_context.run_as_group")
    if len(security.supplemental_groups) > _MAX_GROUPS:
        raise InvalidArgumentError(f"security_context.supplemental_groups: more than {_MAX_GROUPS}")
    for index, value in enumerate(security.supplemental_groups):
        _checked(value, f"security_context.supplemental_groups[{index}]")
    if security.supplemental_groups_policy not in cri.SupplementalGroupsPolicy.values():
        raise InvalidArgumentError(
            f"security_context.supplemental_groups_policy: unknown policy {security.supplemental_groups_policy}"
        )


def resolve(security: cri.LinuxContainerSecurityContext, image_user: str, passwd: str, group: str) -> User:
    """Return the user for a container. Raises InvalidArgumentError naming the field that cannot be resolved."""
    check(security)
    image_group = ""
    if security.HasField("run_as_user"):
        uid = security.run_as_user.value
        account = _account(passwd, uid=uid)
    elif security.run_as_username:
        account = _account(passwd, name=security.run_as_username)
        if account is None:
            raise InvalidArgumentError(
                f"security_context.run_as_username: {security.run_as_username[:64]!r} is not in the image's /etc/passwd"
            )
        uid = account.uid
    else:
        name, _, image_group = image_user.partition(":")
        uid, account = _image_user(name, passwd)

    if security.HasField("run_as_group"):
        gid = security.run_as_group.value
    elif image_group:
        gid = _image_group(image_group, group)
    else:
        gid = account.gid if account else 0
    return User(uid, gid, _groups(security, gid, account, group), _home(account))


def _image_user(name: str, passwd: str) -> tuple[int, _Account | None]:
    """Resolve the user half of an image's USER; nothing means root."""
    if not name:
        return 0, _account(passwd, uid=0)
    if _NUMBER.fullmatch(name):
        uid = _checked(int(name), "the image's user")
        return uid, _account(passwd, uid=uid)
    account = _account(passwd, name=name)
    if account is None:
        raise InvalidArgumentError(f"the image's user {name[:64]!r} is not in its /etc/passwd")
    return account.uid, account


def missing_account(user: User, passwd: str, environment: Sequence[str]) -> str:
    """Return what is to be appended to the container's /etc/passwd so that its user has an entry there, "" for nothing.

    Programs such as ssh and git refuse to run for a user without a name. CRI-O adds the same one: the number is the name. An
    image without the file is left so.
    """
    if not passwd or _account(passwd, uid=user.uid) is not None:
        return ""
    home = next((entry.removeprefix("HOME=") for entry in environment if entry.startswith("HOME=")), "/")
    if not home.isprintable() or ":" in home:
        home = "/"
    line = f"{user.uid}:x:{user.uid}:{user.gid}:{user.uid} user:{home}:/sbin/nologin\n"
    return line if passwd.endswith("\n") else f"\n{line}"


def _image_group(name: str, group: str) -> int:
    """Resolve the group half of an image's USER."""
    if _NUMBER.fullmatch(name):
        return _checked(int(name), "the image's group")
    for candidate, gid, _ in _group_lines(group):
        if candidate == name:
            return gid
    raise InvalidArgumentError(f"the image's group {name[:64]!r} is not in its /etc/group")


def _groups(security: cri.LinuxContainerSecurityContext, gid: int, account: _Account | None, group: str) -> tuple[int, ...]:
    """Return the primary group, the image's memberships if the policy merges them, and the CRI's groups, each once."""
    groups = {gid: None}
    if account and security.supplemental_groups_policy == cri.SupplementalGroupsPolicy.Merge:
        groups |= {number: None for _, number, members in _group_lines(group) if account.name in members}
    return tuple(groups | dict.fromkeys(security.supplemental_groups))


def _account(passwd: str, *, name: str | None = None, uid: int | None = None) -> _Account | None:
    """Return the first entry of that name or user id."""
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) < 6 or not fields[0] or not (_NUMBER.fullmatch(fields[2]) and _NUMBER.fullmatch(fields[3])):
            continue
        account = _Account(fields[0], int(fields[2]), int(fields[3]), fields[5])
        if max(account.uid, account.gid) > ID_LIMIT:
            continue
        if account.name == name or account.uid == uid:
            return account
    return None


def _group_lines(group: str) -> Iterator[tuple[str, int, list[str]]]:
    """Yield name, id and members for each entry of group(5)."""
    for line in group.split("\n"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[0] and _NUMBER.fullmatch(fields[2]) and int(fields[2]) <= ID_LIMIT:
            yield fields[0], int(fields[2]), fields[3].split(",")


def _home(account: _Account | None) -> str:
    """Return the home directory, `/` where there is none or it could not be one."""
    home = account.home if account else ""
    return home if home.startswith("/") and home.isprintable() else "/"


def _checked(value: int, field: str) -> int:
    """Return `value` if it is a user or group id."""
    if not 0 <= value <= ID_LIMIT:
        raise InvalidArgumentError(f"{field}: {value} is not between 0 and {ID_LIMIT}")
    return value
