"""Capability sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import capabilities
from crid.oci.spec.capabilities import KNOWN
from crid.oci.spec.policy import DEFAULT as DEFAULT_CAPABILITIES

ALL = frozenset(KNOWN)


def bounding(
    add: tuple[str, ...] = (), drop: tuple[str, ...] = (), ambient: tuple[str, ...] = (), held: frozenset[str] = ALL
) -> frozenset[str]:
    return capabilities.effective_bounding(context(add, drop, ambient), held, DEFAULT_CAPABILITIES)[0]


def context(
    add: tuple[str, ...] = (), drop: tuple[str, ...] = (), ambient: tuple[str, ...] = ()
) -> cri.LinuxContainerSecurityContext:
    return cri.LinuxContainerSecurityContext(
        capabilities=cri.Capability(add_capabilities=add, drop_capabilities=drop, add_ambient_capabilities=ambient)
    )


def test_the_table_is_the_kernels() -> None:
    assert len(KNOWN) == 41
    assert (KNOWN[0], KNOWN[21], KNOWN[40]) == ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE")


def test_combinations() -> None:
    default = frozenset(DEFAULT_CAPABILITIES)
    assert bounding() == default
    assert bounding(add=("NET_ADMIN",)) == default | {"CAP_NET_ADMIN"}
    assert bounding(add=("cap_net_admin",)) == default | {"CAP_NET_ADMIN"}
    assert bounding(drop=("KILL", "CAP_NET_RAW")) == default - {"CAP_KILL"}
    assert bounding(add=("ALL",)) == ALL
    assert bounding(add=("all",), drop=("CHOWN",)) == ALL - {"CAP_CHOWN"}
    assert bounding(drop=("ALL",)) == frozenset()
    assert bounding(add=("NET_BIND_SERVICE",), drop=("ALL",)) == {"CAP_NET_BIND_SERVICE"}
    assert bounding(add=("ALL", "KILL"), drop=("ALL",)) == {"CAP_KILL"}
    assert bounding(add=("KILL",), drop=("KILL",)) == default - {"CAP_KILL"}


@pytest.mark.parametrize("field", ["add_capabilities", "drop_capabilities", "add_ambient_capabilities"])
def test_an_unknown_name_is_refused(field: str) -> None:
    asked = context()
    getattr(asked.capabilities, field).append("NET_RWA")
    with pytest.raises(InvalidArgumentError, match=rf"{field}: .*'NET_RWA'"):
        capabilities.effective_bounding(asked, ALL, ())


def test_root_has_the_set_without_inheritable() -> None:
    sets = capabilities.sets(context(), frozenset({"CAP_KILL"}), uid=0)
    assert sets["effective"] == sets["permitted"] == sets["bounding"] == ["CAP_KILL"]
    assert sets["inheritable"] == sets["ambient"] == []


def test_others_have_only_what_is_ambient() -> None:
    asked = context(add=("NET_ADMIN",), ambient=("NET_BIND_SERVICE",))
    held, _ = capabilities.effective_bounding(asked, ALL, ())
    sets = capabilities.sets(asked, held, uid=1000)
    assert sets["bounding"] == ["CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN"]
    for name in ("effective", "permitted", "inheritable", "ambient"):
        assert sets[name] == ["CAP_NET_BIND_SERVICE"]


def test_what_the_daemon_lacks_is_said() -> None:
    granted, warnings = capabilities.effective_bounding(context(add=("SYS_RESOURCE",)), ALL - {"CAP_SYS_RESOURCE"}, ())
    assert granted == frozenset()
    assert "CAP_SYS_RESOURCE" in warnings[0]


names = st.lists(st.sampled_from([*KNOWN, "ALL", "net_raw"]), max_size=4).map(tuple)


@given(names, names, names, st.frozensets(st.sampled_from(KNOWN)), st.sampled_from([0, 1000]), st.booleans())
def test_never_more_than_the_daemon_holds_nor_what_is_dropped(
    add: tuple[str, ...],
    drop: tuple[str, ...],
    ambient: tuple[str, ...],
    held: frozenset[str],
    uid: int,
    privileged: bool,
) -> None:
    asked = context(add, drop, ambient)
    asked.privileged = privileged
    granted, _ = capabilities.effective_bounding(asked, held, DEFAULT_CAPABILITIES)
    sets = capabilities.sets(asked, granted, uid)
    dropped = frozenset() if privileged else {name for name in drop if name.startswith("CAP_")}
    for values in sets.values():
        assert set(values) <= held - dropped
        assert set(values) <= set(sets["bounding"])
