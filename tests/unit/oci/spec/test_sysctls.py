"""Which sysctls a pod may set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.linux.namespaces import sysctl_path
from crid.model.idmap import IdMap, IdRange, IdRanges
from crid.oci.spec import sysctls

OWN = cri.NamespaceOption()
HOST_NETWORK = cri.NamespaceOption(network=cri.NODE)
HOST_IPC = cri.NamespaceOption(ipc=cri.NODE)


@pytest.mark.parametrize(
    "name",
    [
        "kernel.shm_rmid_forced",
        "kernel/msgmax",
        "kernel.sem",
        "fs.mqueue.msg_max",
        "fs/mqueue/msg_max",
        "net.core.somaxconn",
        "net.ipv4.conf.eth0/1.forwarding",
        "net/ipv4/conf/eth0.1/forwarding",
        "kernel.domainname",
    ],
)
def test_those_of_a_pods_namespaces(name: str) -> None:
    sysctls.check({name: "1"}, OWN)


@pytest.mark.parametrize(
    "name",
    ["vm.swappiness", "kernel.pid_max", "kernel.hostname", "fs.file-max", "fs.mqueuex.a", "kernel.shm", "netx.a"],
)
def test_those_of_the_host(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"linux.sysctls: '{name}' is not one that a pod may set"):
        sysctls.check({name: "1"}, OWN)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("net.ipv4.ip_forward", HOST_NETWORK, "network"),
        ("kernel.domainname", HOST_NETWORK, "network"),
        ("kernel.msgmax", HOST_IPC, "ipc"),
        ("fs.mqueue.msg_max", HOST_IPC, "ipc"),
    ],
)
def test_those_of_a_namespace_that_is_the_hosts(name: str, options: cri.NamespaceOption, kind: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"the host's {kind} namespace"):
        sysctls.check({name: "1"}, options)
    sysctls.check({name: "1"}, OWN)


@pytest.mark.parametrize("name", ["", ".", "net", "net.", "net..a", "net/../kernel/panic", "net./../x", "net.a\0", "net.\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"linux\.sysctls"):
        sysctls.check({name: "1"}, OWN)


@pytest.mark.parametrize("value", ["1\n2", "\0"])
def test_values_that_are_none(value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"the value of net\.a"):
        sysctls.check({"net.a": value}, OWN)


@given(st.text(alphabet="net./ak\0", max_size=16))
def test_what_is_let_through_stays_below_its_directory(name: str) -> None:
    """The check and the writing of a sysctl read a name in the same way."""
    try:
        sysctls.check({name: "1"}, OWN)
    except InvalidArgumentError:
        return
    path = sysctl_path(name)
    assert path.startswith("/proc/sys/net/")
    assert ".." not in path.split("/")


def test_defaults_of_the_configuration() -> None:
    """Below what the pod asks for, and only where the pod has the namespace."""
    defaults = {"net.ipv4.ping_group_range": "0 0", "kernel.shmmax": "1"}
    both = sysctls.with_defaults({"kernel.shmmax": "2"}, defaults, cri.NamespaceOption())
    assert both == {"net.ipv4.ping_group_range": "0 0", "kernel.shmmax": "2"}
    assert sysctls.with_defaults({}, defaults, cri.NamespaceOption(network=cri.NODE)) == {"kernel.shmmax": "1"}


PING = "net.ipv4.ping_group_range"
MAPPED = IdMap(IdRanges((IdRange(5, 10),)), IdRanges((IdRange(5, 100), IdRange(900, 10, 500))))


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("0 2147483647", "0 509"),
        ("0\t505", "0\t505"),
        ("0 200", "0 99"),
        ("50 99", "50 99"),
        ("200 300", "200 300"),  # the kernel refuses it, as it should
        ("1 0", "1 0"),
        ("many", "many"),
        ("-1 5", "-1 5"),
    ],
)
def test_groups_that_may_send_pings_are_mapped(asked: str, got: str) -> None:
    for name in (PING, PING.replace(".", "/")):
        assert sysctls.within({name: asked, "net.ipv4.ip_forward": "0 7"}, MAPPED) == {name: got, "net.ipv4.ip_forward": "0 7"}
