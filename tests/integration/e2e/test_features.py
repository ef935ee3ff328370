"""Status says what each runtime handler and the node can do; here each of it is done, or refused where it is not said."""

from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.node import Node


def status(node: Node) -> cri.StatusResponse:
    return node.cri.runtime.Status(cri.StatusRequest(), timeout=60)


@pytest.fixture
def handlers(node: Node) -> Mapping[str, cri.RuntimeHandlerFeatures]:
    return {handler.name: handler.features for handler in status(node).runtime_handlers}


def mapped(network: "cri.NamespaceMode.ValueType" = cri.POD) -> cri.NamespaceOption:
    """The options of a pod with a user namespace."""
    options = namespaces(network=network)
    mapping = [cri.IDMapping(host_id=100_000, container_id=0, length=65536)]
    options.userns_options.CopyFrom(cri.UserNamespace(mode=cri.POD, uids=mapping, gids=mapping))
    return options


def test_the_default_handler_has_the_empty_name_too(node: Node, handlers: Mapping[str, cri.RuntimeHandlerFeatures]) -> None:
    assert handlers[""] in [features for name, features in handlers.items() if name]
    for name in handlers:
        assert node.pod(handler=name).printed("echo", "runs") == "runs"
    config = node.pod_config()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "nonsense"):
        node.cri.run_pod(config, handler="nonsense")


def test_recursive_read_only_mounts(node: Node, handlers: Mapping[str, cri.RuntimeHandlerFeatures], tmp_path: Path) -> None:
    for name, features in handlers.items():
        pod = node.pod(handler=name)
        mount = cri.Mount(host_path=str(tmp_path), container_path="/data", readonly=True, recursive_read_only=True)
        if features.recursive_read_only_mounts:
            assert pod.printed("sh", "-c", "touch /data/x 2> /dev/null || echo refused", mounts=[mount]) == "refused"
        else:
            with refused(grpc.StatusCode.FAILED_PRECONDITION, "recursive_read_only"):
                pod.create("true", mounts=[mount])


def test_user_namespaces_also_on_the_hosts_network(node: Node, handlers: Mapping[str, cri.RuntimeHandlerFeatures]) -> None:
    assert status(node).features.user_namespaces_host_network == any(each.user_namespaces for each in handlers.values())
    for name, features in handlers.items():
        for options in (mapped(), mapped(network=cri.NODE)):
            config = node.pod_config(options=options, hostname="")
            if not features.user_namespaces:
                with refused(grpc.StatusCode.FAILED_PRECONDITION, "user"):
                    node.cri.run_pod(config, handler=name)
                continue
            pod = node.pod(handler=name, options=options, hostname="")
            security = cri.LinuxContainerSecurityContext(namespace_options=options)
            words = pod.printed("cat", "/proc/self/uid_map", security=security).split()
            assert words == ["0", "100000", "65536"]


def test_supplemental_groups_policy_and_mount_options(node: Node, tmp_path: Path) -> None:
    features = status(node).features
    assert features.supplemental_groups_policy
    assert features.mount_options
    security = cri.LinuxContainerSecurityContext(
        namespace_options=namespaces(),
        run_as_user=cri.Int64Value(value=1000),
        supplemental_groups=[1234],
        supplemental_groups_policy=cri.Strict,
    )
    pod = node.pod()
    assert pod.printed("id", "-G", security=security) == "1000 1234"
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    mount = cri.Mount(host_path=str(tmp_path), container_path="/data")
    assert pod.printed("sh", "-c", "/data/program || echo no", mounts=[mount]) == "ran"
    mount.mount_options.append("noexec")
    assert pod.printed("sh", "-c", "/data/program 2> /dev/null || echo no", mounts=[mount]) == "no"
