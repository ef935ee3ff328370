"""Options by annotation: two names each, for the pod or one container, where the handler allows them."""

import pytest

from crid.errors import InvalidArgumentError
from crid.oci.spec import asked
from crid.oci.spec.asked import NOTHING, OLDER, Asked, of_container, shm_size, userns_mode
from crid.oci.spec.policy import AskedDevice, Policy

ALL = Policy(allowed_annotations=tuple(OLDER), allowed_devices=frozenset({"/dev/fuse", "/dev/net/tun"}))


def of(annotations: dict[str, str], rules: Policy = ALL, own: dict[str, str] | None = None) -> Asked:
    return of_container(rules, annotations, own or {}, "app")


def test_nothing() -> None:
    assert of({"other": "1"}) is NOTHING
    assert of({asked.UMASK: "077"}, Policy()) == NOTHING
    assert of({asked.UMASK: "077"}, Policy(allowed_annotations=(asked.SHM_SIZE,))) == NOTHING


@pytest.mark.parametrize("option", OLDER)
@pytest.mark.parametrize("listed", [0, 1])
@pytest.mark.parametrize("said", [0, 1])
def test_either_name_allows_and_means_the_same(option: str, listed: int, said: int) -> None:
    names, values = (option, OLDER[option]), {asked.UMASK: "022", asked.DEVICES: "/dev/fuse", asked.UNIFIED: "a.b=1"}
    rules = Policy(allowed_annotations=(names[listed],), allowed_devices=ALL.allowed_devices)
    annotations = {names[said]: values.get(option, "1Mi" if option == asked.SHM_SIZE else "true")}
    if option == asked.SHM_SIZE:
        assert shm_size(rules, annotations) == 1 << 20
    elif option == asked.USERNS_MODE:
        assert userns_mode(rules, annotations) == "true"
    else:
        assert of(annotations, rules) != NOTHING


def test_the_nearer_and_the_newer_go_first() -> None:
    older = OLDER[asked.UMASK]
    order = [f"{asked.UMASK}/app", f"{older}/app", f"{older}.app", f"{asked.UMASK}/POD", f"{older}/POD", asked.UMASK, older]
    for position in range(len(order)):
        annotations = {name: f"{place}" for place, name in enumerate(order) if place >= position}
        assert of(annotations).umask == position
    assert of({f"{asked.UMASK}/other": "1"}) == NOTHING
    assert of({asked.UMASK: "1"}, own={asked.UMASK: "2"}).umask == 2


def test_files_of_the_pods_own_cgroup() -> None:
    """With /POD they are not for its containers; without, not for it."""
    annotations = {f"{asked.UNIFIED}/POD": "memory.high=1", OLDER[asked.UNIFIED]: "memory.high=2"}
    assert asked.cgroup_files(ALL, annotations) == {"memory.high": "1"}
    assert of(annotations).unified == {"memory.high": "2"}
    assert asked.cgroup_files(Policy(), annotations) == {}
    assert asked.cgroup_files(ALL, {f"{OLDER[asked.UNIFIED]}.POD": "memory.high=3"}) == {"memory.high": "3"}
    assert asked.cgroup_files(ALL, {asked.UNIFIED: "memory.high=4"}) == {}


def test_values() -> None:
    found = of(
        {
            asked.UMASK: "0077",
            asked.UNIFIED: "memory.high=1024;;cpu.max=max 1000;memory.max=NDI5NDk2NzI5Ng==;memory.low=1000; io.weight=full",
            asked.CGROUP_WRITABLE: "true",
            asked.SECCOMP_PROFILE: "runtime/default",
            asked.DEVICES: "/dev/fuse,/dev/net/tun:rw",
            asked.SKIP_RELABEL: "false",
            asked.LINK_LOGS: "logs",
            asked.SECCOMP_NOTIFIER: "stop",
        }
    )
    unified = {"memory.high": "1024", "cpu.max": "max 1000", "memory.max": "4294967296"}
    unified |= {"memory.low": "1000", "io.weight": "full"}
    devices = (AskedDevice("/dev/fuse", "/dev/fuse", "rwm"), AskedDevice("/dev/net/tun", "/dev/net/tun", "rw"))
    assert found == Asked(0o77, unified, True, "runtime/default", devices, link_logs="logs", seccomp_notifier="stop")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (asked.UMASK, "8"),
        (asked.UMASK, "00000"),
        (asked.UNIFIED, "memory.high"),
        (asked.CGROUP_WRITABLE, "yes"),
        (asked.DISABLE_FIPS, "1"),
        (asked.DEVICES, "/dev/sda"),
        (asked.DEVICES, "/etc/passwd"),
        (asked.LINK_LOGS, "../x"),
        (asked.LINK_LOGS, "Logs"),
    ],
)
def test_what_means_nothing_is_refused_by_name(option: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"^annotation {option}: "):
        of({option: value})


@pytest.mark.parametrize("value", ["0", "much", "-1"])
def test_a_size_that_is_none(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=asked.SHM_SIZE):
        shm_size(ALL, {asked.SHM_SIZE: value})
