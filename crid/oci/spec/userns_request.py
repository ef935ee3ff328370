"""Where a pod's user namespace comes from: the CRI's mappings, else the pod's annotation, else the configuration's default.

The annotation, where the runtime handler or a workload allows it (crid.oci.spec.asked), is CRI-O's, and says one of

    auto[:size=N][;keep-id=true|;map-to-root=true][;uidmapping=INSIDE:HOST:LENGTH,...][;gidmapping=...]
    private[:uidmapping=...][;gidmapping=...]

`auto` has the ids 0 to size-1, of which crid chooses all that the rest does not say (crid.lifecycle.id_ranges). With keep-id
the pod's user and group are those of the host under the same numbers, with map-to-root they are root inside. `private` has
what it says, without mappings the configuration's default. In either case the pod's supplementary groups are the host's, since
volumes belong to them (fsGroup): under the same numbers with `auto`, else under the next ones that are free.

Who names ids of the host must be allowed to have them. As in CRI-O, mappings want a pod that says whom it runs as: root, or
somebody from `minimum_mappable_uid` on; and none may be below the configured minimum.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.idmap import ID_LIMIT, MAX_RANGES, IdMap, IdRange, IdRanges, Origin
from crid.oci.spec import asked, userns
from crid.oci.spec.policy import Policy

ANNOTATION = f"annotation {asked.USERNS_MODE}"
DEFAULT = "crid.runtime.uid_mappings"
DEFAULT_SIZE = 65536
"""Ids that `auto` has where the pod does not say: as many as CRI-O gives."""

_AUTO = frozenset({"size", "keep-id", "map-to-root", "uidmapping", "gidmapping"})
_PRIVATE = frozenset({"uidmapping", "gidmapping"})


@dataclass(frozen=True, slots=True)
class UserNamespaceRequest:
    """What is fixed of a pod's map, and how many ids from 0 on it is to have beside that."""

    source: str
    """Who asked, for errors."""
    fixed: IdMap
    size: int = 0


def requested(config: cri.PodSandboxConfig, rules: Policy) -> UserNamespaceRequest | None:
    """Return the user namespace that the pod is to have, None for the host's.

    A kubelet says NODE of every pod that does not say `hostUsers: false`, so that does not contradict the annotation; the
    default mapping it does, as do the host's PID and IPC namespaces.

    Raises InvalidArgumentError naming the field or the annotation.
    """
    security = config.linux.security_context
    options = security.namespace_options
    given = userns.wanted(options)
    mode = asked.userns_mode(rules, config.annotations)
    if mode:
        if given is not None:
            raise InvalidArgumentError(f"{ANNOTATION}: {userns.FIELD} has mappings as well")
        if kind := userns.host_namespace(options):
            raise InvalidArgumentError(f"{ANNOTATION}: does not go with namespace_options.{kind} NODE")
        return _by_annotation(mode, security, rules)
    if given is not None:
        userns.check_minimum(given, rules.minimum_mappable_uid, rules.minimum_mappable_gid)
        return UserNamespaceRequest(userns.FIELD, given)
    default = rules.default_user_namespace
    if default is None or options.userns_options.mode == cri.NamespaceMode.NODE or userns.host_namespace(options):
        return None
    return UserNamespaceRequest(DEFAULT, default)


def id_ranges(text: str, origin: Origin = Origin.GIVEN) -> IdRanges:
    """Parse `0:100000:65536,70000:70000:1`: INSIDE:HOST:LENGTH. Raises InvalidArgumentError."""
    found = []
    for part in filter(None, text.split(",")):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(each.isascii() and each.isdecimal() and len(each) <= 10 for each in numbers):
            raise InvalidArgumentError(f"{part[:64]!r} is not INSIDE:HOST:LENGTH")
        inside, host, length = map(int, numbers)
        found.append(IdRange(host, length, inside, origin))
    return IdRanges(tuple(found))


def check_map(idmap: IdMap, names: tuple[str, str], size: int = 0) -> None:
    """Refuse ranges that the kernel would, and a map without the container's root; `size` ids from 0 on are mapped besides.
    `names` are whose the users and the groups are. Raises InvalidArgumentError."""
    for name, mapped in zip(names, (idmap.users, idmap.groups), strict=True):
        for each in mapped.ranges:
            ends = max(each.inside, each.host) + each.length
            if not each.length or min(each.inside, each.host) < 0 or ends > ID_LIMIT:
                where = f"{each.inside}:{each.host}:{each.length}"
                raise InvalidArgumentError(f"{name}: {where} is empty, or not within the ids 0 to {ID_LIMIT - 1}")
        if (twice := mapped.mapped_twice()) is not None:
            raise InvalidArgumentError(f"{name}: {twice} is mapped twice")
        if len(mapped.ranges) > MAX_RANGES:
            raise InvalidArgumentError(f"{name}: has {len(mapped.ranges)} ranges, more than {MAX_RANGES}")
        if not size and mapped.to_host(0) is None:
            raise InvalidArgumentError(f"{name}: id 0 of the container is not mapped")


def _by_annotation(text: str, security: cri.LinuxSandboxSecurityContext, rules: Policy) -> UserNamespaceRequest:
    mode, colon, rest = text.partition(":")
    if mode not in ("auto", "private"):
        raise _meaningless(text, "is neither auto nor private")
    options = _options(rest, _AUTO if mode == "auto" else _PRIVATE) if colon else {}
    mapped = {key: _mapping(text) for key, text in options.items() if key in _PRIVATE}
    if mapped:
        _check_may_map(security, rules)
    request = _auto(text, options, mapped, security) if mode == "auto" else _private(text, mapped, security, rules)
    check_map(request.fixed, (ANNOTATION, ANNOTATION), request.size)
    userns.check_minimum(request.fixed, rules.minimum_mappable_uid, rules.minimum_mappable_gid, (ANNOTATION, ANNOTATION))
    return request


def _options(text: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(";"):
        key, separator, value = part.partition("=")
        if not separator or key not in known or key in found:
            raise _meaningless(part, f"is not one of {', '.join(sorted(known))}, each once, with a value")
        found[key] = value
    return found


def _mapping(text: str) -> IdRanges:
    try:
        return id_ranges(text, Origin.HOST)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{ANNOTATION}: {error}") from error


def _check_may_map(security: cri.LinuxSandboxSecurityContext, rules: Policy) -> None:
    """Without a user namespace the pod has the rights of the user that it runs as, and is to get no more by a map."""
    if not security.HasField("run_as_user"):
        raise InvalidArgumentError(f"{ANNOTATION}: mappings want a pod with run_as_user")
    user, least = security.run_as_user.value, rules.minimum_mappable_uid
    if user and (least < 0 or user < least):
        allowed = f"is below minimum_mappable_uid {least}" if least >= 0 else "no minimum_mappable_uid is configured"
        raise InvalidArgumentError(f"{ANNOTATION}: mappings are not for a pod that runs as user {user}: {allowed}")


def _auto(
    text: str, options: dict[str, str], mapped: dict[str, IdRanges], security: cri.LinuxSandboxSecurityContext
) -> UserNamespaceRequest:
    keep, to_root = _flag(options, "keep-id"), _flag(options, "map-to-root")
    if keep and to_root:
        raise _meaningless(text, "has both keep-id and map-to-root")
    size = _size(options.get("size", str(DEFAULT_SIZE)))
    users, groups = [list(mapped[key].ranges) if key in mapped else [] for key in ("uidmapping", "gidmapping")]
    if keep or to_root:
        for ranges, numbers in zip((users, groups), _runs_as(security), strict=True):
            ranges += [_one(number, number if keep else 0) for number in numbers]
    for number in _volume_groups(security, groups):
        groups.append(_one(number, number))
    return UserNamespaceRequest(ANNOTATION, IdMap(IdRanges(tuple(users)), IdRanges(tuple(groups))), size)


def _private(
    text: str, mapped: dict[str, IdRanges], security: cri.LinuxSandboxSecurityContext, rules: Policy
) -> UserNamespaceRequest:
    if not mapped:
        if rules.default_user_namespace is None:
            raise _meaningless(text, f"has no mappings, and {DEFAULT} has none either")
        return UserNamespaceRequest(ANNOTATION, rules.default_user_namespace)
    either = next(iter(mapped.values()))
    users, groups = [list(mapped.get(key, either).ranges) for key in ("uidmapping", "gidmapping")]
    for number in _volume_groups(security, groups):
        groups.append(_one(number, max((each.inside + each.length for each in groups), default=0)))
    return UserNamespaceRequest(ANNOTATION, IdMap(IdRanges(tuple(users)), IdRanges(tuple(groups))))


def _runs_as(security: cri.LinuxSandboxSecurityContext) -> tuple[list[int], list[int]]:
    """Return the pod's user and its group, if it says them."""
    user = [security.run_as_user.value] if security.HasField("run_as_user") else []
    return user, [security.run_as_group.value] if security.HasField("run_as_group") else []


def _volume_groups(security: cri.LinuxSandboxSecurityContext, mapped: Iterable[IdRange]) -> list[int]:
    """Return those of the pod's supplementary groups that are yet to be mapped. The host's group 0 is for nobody."""
    known = [*mapped]
    asked = dict.fromkeys(filter(None, security.supplemental_groups))
    return [number for number in asked if not any(0 <= number - each.host < each.length for each in known)]


def _one(host: int, inside: int) -> IdRange:
    return IdRange(host, 1, inside, Origin.HOST)


def _flag(options: dict[str, str], key: str) -> bool:
    value = options.get(key, "false")
    if value not in ("true", "false"):
        raise _meaningless(f"{key}={value}", "is neither true nor false")
    return value == "true"


def _size(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 0 < int(text) <= ID_LIMIT):
        raise _meaningless(f"size={text}", "is no number of ids")
    return int(text)


def _meaningless(text: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{ANNOTATION}: {text[:64]!r} {why}")
