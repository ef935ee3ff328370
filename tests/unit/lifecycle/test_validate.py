"""Requests that make no sense are refused by the field's name. What the verbs refuse is in their own tests."""

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle import validate
from crid.linux import cpu
from crid.model import cpus
from tests.unit.lifecycle.world import container_config, pod_config


@pytest.mark.parametrize("field", ["name", "namespace", "uid"])
@pytest.mark.parametrize("value", ["a/b", "../x"])
def test_a_pods_names_are_no_paths(field: str, value: str) -> None:
    config = pod_config()
    setattr(config.metadata, field, value)
    with pytest.raises(InvalidArgumentError, match=field):
        validate.require_metadata(config)


def test_only_the_uid_may_be_empty() -> None:
    config = pod_config()
    config.metadata.uid = ""
    validate.require_metadata(config)


@pytest.mark.parametrize("path", ["", "0.log", "a/0.log", "..a/0.log", "a..b"])
def test_log_paths(path: str) -> None:
    validate.require_container(container_config(log_path=path))


@pytest.mark.parametrize("path", ["/0.log", "..", "../0.log", "a/../../0.log"])
def test_log_paths_out_of_the_pods_directory(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="log_path"):
        validate.require_container(container_config(log_path=path))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (r"working_dir: 'a\000b'", "ContainerConfig.working_dir"),
        (r"command: 'a' command: 'a\000b'", "ContainerConfig.command"),
        (r"envs { key: 'A' value: 'a\000b' }", "ContainerConfig.envs.value"),
        (r"devices { host_path: '/dev/null' } devices { host_path: '/dev/\000' }", "ContainerConfig.devices.host_path"),
        (r"linux { security_context { masked_paths: '\000' } }", "ContainerConfig.linux.security_context.masked_paths"),
        (r"annotations { key: 'a' value: '\000' }", "ContainerConfig.annotations"),
        (r"linux { resources { unified { key: 'memory.high' value: '\000' } } }", "ContainerConfig.linux.resources.unified"),
    ],
)
def test_a_nul_is_refused_wherever_it_is(text: str, field: str) -> None:
    config = container_config()
    text_format.Merge(text, config)
    with pytest.raises(InvalidArgumentError, match=rf"^{field}: "):
        validate.require_container(config)


def test_what_is_only_empty_is_no_nul() -> None:
    """An empty message is written with a length of 0."""
    config = cri.ContainerConfig(linux=cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext()))
    config.linux.security_context.run_as_user.value = 0
    assert b"\0" in config.SerializeToString()
    validate.refuse_nul(config, "ContainerConfig")


def test_cpus_and_memory_nodes_that_are_not_there() -> None:
    """Whether of a container, a pod or its overhead; those that are there pass."""
    there = cri.LinuxContainerResources(cpuset_cpus=cpus.to_list(cpu.online()), cpuset_mems=cpus.to_list(cpu.memory_nodes()))
    validate.require_pod_limits(there, there)
    for field, words in (("cpuset_cpus", "no CPU 60000"), ("cpuset_mems", "no memory node 60000")):
        absent = cri.LinuxContainerResources(**{field: "0,60000"})  # type: ignore[arg-type]  # either field is a text
        with pytest.raises(InvalidArgumentError, match=rf"^resources\.{field}: .*{words}"):
            validate.require_cpuset(absent)
        for prefix, pair in (("overhead", (absent, there)), ("resources", (there, absent))):
            with pytest.raises(InvalidArgumentError, match=rf"^{prefix}: resources\.{field}: "):
                validate.require_pod_limits(*pair)
