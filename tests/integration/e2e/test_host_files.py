"""CDI devices and OCI hooks out of directories of the host, with both runtimes; each change counts from the next container."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from crid.cri import api_pb2 as cri
from tests.harness.client import refused
from tests.harness.configs import namespaces
from tests.harness.daemon import Daemon, Settings
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.tools import eventually
from tests.integration.e2e.conftest import require_runtime

HOOK = """#!/bin/sh
cat > /dev/null
echo "$@ $WHO" >> {log}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where documents and hooks are; open to the root of a user namespace, which is somebody else."""
    directory = tmp_path_factory.mktemp("host-files")
    for parent in (directory, directory.parent, directory.parent.parent):
        parent.chmod(0o755)
    return directory


@pytest.fixture(scope="module", params=["crun", "runc"])
def cdi_node(request: pytest.FixtureRequest, registry: LocalRegistry, image: str, directory: Path) -> Iterator[Node]:
    """A node whose documents and hooks are those of the test."""
    require_runtime(request.param)
    runtime = {
        "cdi_spec_dirs": [str(directory / "cdi"), str(directory / "cdi-run")],
        "hooks_dir": [str(directory / "hooks")],
    }
    settings = Settings(default_runtime=request.param, registries_conf=registry.registries_conf(), runtime=runtime)
    with Daemon(settings) as daemon:
        yield Node(daemon, daemon.cri.pull(image))


@pytest.fixture
def files(cdi_node: Node, directory: Path) -> Iterator[Path]:
    """The directory, and no document or pod afterwards."""
    for name in ("cdi", "cdi-run", "hooks"):
        (directory / name).mkdir(exist_ok=True)
    yield directory
    for path in directory.glob("*/*"):
        path.unlink()
    cdi_node.clean()


def program(directory: Path, name: str) -> tuple[str, Path]:
    """Make a program that notes its arguments and a variable; return it, and where it notes them."""
    path, log = directory / name, directory / f"{name}.log"
    log.unlink(missing_ok=True)
    path.write_text(HOOK.format(log=log))
    path.chmod(0o755)
    return str(path), log


def document(version: str = "0.6.0", **devices: Any) -> dict[str, Any]:
    entries = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
    return {"cdiVersion": version, "kind": "vendor.com/thing", "devices": entries}


def asking(node: Node, command: str, *devices: str, **options: Any) -> cri.ContainerConfig:
    config = node.container_config("sh", "-c", command, **options)
    config.CDI_devices.extend(cri.CDIDevice(name=f"vendor.com/thing={name}") for name in devices)
    return config


def printed(node: Node, config: cri.ContainerConfig, **pod_options: Any) -> str:
    """Run the container in a pod of its own and return what it printed."""
    pod = node.pod(**pod_options)
    container = node.cri.run(pod.id, config, pod.config)
    status = node.cri.wait_exited(container)
    lines = [line.text for line in pod.log(container)]
    assert status.exit_code == 0, (status, lines)
    return "\n".join(lines)


def test_a_device_with_everything_that_belongs_to_it(cdi_node: Node, files: Path) -> None:
    path, log = program(files, "hook")
    library = files / "library"
    library.write_text("a library\n")
    edits = {
        "env": ["COLOUR=from-cdi", "MORE=x=y"],
        "deviceNodes": [
            {"path": "/dev/thing0", "hostPath": "/dev/zero", "fileMode": 0o640},
            {"path": "/dev/thing1", "type": "c", "major": 1, "minor": 11, "permissions": "w"},  # the kernel's log
        ],
        "mounts": [{"hostPath": str(library), "containerPath": "/usr/lib/thing.so", "options": ["ro", "nosuid"]}],
        "hooks": [{"hookName": "createRuntime", "path": path, "args": ["hook", "one"], "env": ["WHO=cdi"], "timeout": 10}],
        "additionalGids": [4444],
    }
    (files / "cdi" / "thing.yaml").write_text(yaml.safe_dump(document("0.7.0", a=edits)))
    script = """
        echo $COLOUR $MORE; cat /usr/lib/thing.so; stat -c '%a %t:%T' /dev/thing0; id -G
        head -c 3 /dev/thing0 | wc -c; (: > /dev/thing1) && echo opened; (: < /dev/thing1) 2> /dev/null && echo wrong; true
    """
    text = printed(cdi_node, asking(cdi_node, script, "a", envs={"COLOUR": "the pod's"}))
    assert text.splitlines() == ["from-cdi x=y", "a library", "640 1:5", "0 4444", "3", "opened"]
    assert log.read_text() == "one cdi\n"


def test_groups_of_a_device_are_reported(cdi_node: Node, files: Path) -> None:
    """Beside those that the config asks for, as the first process has them."""
    (files / "cdi" / "thing.yaml").write_text(yaml.safe_dump(document("0.7.0", a={"additionalGids": [4444, 7]})))
    config = asking(cdi_node, "id -G; sleep 1000000", "a")
    config.linux.security_context.supplemental_groups[:] = [7]
    pod = cdi_node.pod()
    container = cdi_node.cri.run(pod.id, config, pod.config)
    assert list(cdi_node.cri.status(container).user.linux.supplemental_groups) == [0, 7, 4444]
    eventually(lambda: [line.text for line in pod.log(container)] == ["0 7 4444"], "the groups are printed")


def test_a_device_in_a_user_namespace(cdi_node: Node, files: Path) -> None:
    edits = {"deviceNodes": [{"path": "/dev/thing0", "hostPath": "/dev/zero"}], "env": ["A=1"]}
    (files / "cdi" / "thing.json").write_text(json.dumps(document(a=edits)))
    mapping = [cri.IDMapping(host_id=100_000, container_id=0, length=65536)]
    options = namespaces()
    options.userns_options.CopyFrom(cri.UserNamespace(mode=cri.POD, uids=mapping, gids=mapping))
    config = asking(cdi_node, "echo $A; head -c 3 /dev/thing0 | wc -c", "a")
    config.linux.security_context.namespace_options.CopyFrom(options)
    assert printed(cdi_node, config, options=options).splitlines() == ["1", "3"]


def test_by_annotation_and_by_field_it_comes_once(cdi_node: Node, files: Path) -> None:
    path, log = program(files, "hook")
    edits = {"hooks": [{"hookName": "createRuntime", "path": path, "args": ["hook", "once"]}]}
    (files / "cdi" / "thing.json").write_text(json.dumps(document(a=edits)))
    config = asking(cdi_node, "true", "a")
    config.annotations["cdi.k8s.io/thing"] = "vendor.com/thing=a"
    printed(cdi_node, config)
    assert log.read_text() == "once \n"


def test_changes_conflicts_and_broken_documents(cdi_node: Node, files: Path) -> None:
    config = asking(cdi_node, "echo $A", "a")
    pod = cdi_node.pod()
    with refused(grpc.StatusCode.NOT_FOUND, "CDI_devices[0].name", "vendor.com/thing=a"):
        cdi_node.cri.create(pod.id, config, pod.config)
    (files / "cdi" / "broken.yaml").write_text("cdiVersion: [")
    (files / "cdi" / "a.json").write_text(json.dumps(document(a={"env": ["A=1"]})))
    assert printed(cdi_node, config) == "1"
    (files / "cdi" / "a.json").write_text(json.dumps(document(a={"env": ["A=two"]})))
    assert printed(cdi_node, config) == "two"
    (files / "cdi" / "b.json").write_text(json.dumps(document(a={"env": ["A=3"]})))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "a.json", "b.json"):
        cdi_node.cri.create(pod.id, config, pod.config)
    (files / "cdi-run" / "c.json").write_text(json.dumps(document(a={"env": ["A=4"]})))
    assert printed(cdi_node, config) == "4"
    status = cdi_node.cri.runtime.Status(cri.StatusRequest(verbose=True), timeout=60)
    report = json.loads(status.info["info"])["cdi"]
    assert report["devices"] == ["vendor.com/thing=a"]
    assert list(report["errors"]) == [str(files / "cdi" / "broken.yaml")]
    assert "a CDI document is broken" in cdi_node.daemon.log_text()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "CDI_devices[0].name", "no CDI device"):
        cdi_node.cri.create(pod.id, asking(cdi_node, "true", "a b"), pod.config)
    assert cdi_node.cri.containers(pod_sandbox_id=pod.id) == []


def test_hooks_by_their_conditions(cdi_node: Node, files: Path) -> None:
    path, log = program(files, "hook")
    host = files / "volume"
    host.mkdir(exist_ok=True)

    def hook(name: str, **when: Any) -> None:
        content = {
            "version": "1.0.0",
            "hook": {"path": path, "args": ["hook", name], "env": ["WHO=me"]},
            "when": when,
            "stages": ["createRuntime", "poststop"],
        }
        (files / "hooks" / f"{name}.json").write_text(json.dumps(content))

    hook("10-annotated", annotations={"^wants-hook$": "^yes$"})
    hook("20-command", commands=["/?sh$"])
    hook("30-mounts", hasBindMounts=True)
    hook("40-never", always=False)
    (files / "hooks" / "50-broken.json").write_text("{")
    pod = cdi_node.pod(annotations={"wants-hook": "yes"})
    container = cdi_node.cri.run(pod.id, cdi_node.container_config("sh", "-c", "true"), pod.config)
    cdi_node.cri.wait_exited(container)
    assert log.read_text() == "10-annotated me\n20-command me\n"
    cdi_node.cri.remove(container)
    assert log.read_text() == 2 * "10-annotated me\n20-command me\n"
    log.unlink()
    (files / "hooks" / "20-command.json").unlink()
    mount = cri.Mount(host_path=str(host), container_path="/volume")
    pod = cdi_node.pod()
    cdi_node.cri.wait_exited(cdi_node.cri.run(pod.id, cdi_node.container_config("true", mounts=[mount]), pod.config))
    assert log.read_text() == "30-mounts me\n"


def test_a_hook_that_fails_fails_the_creation_and_leaves_nothing(cdi_node: Node, files: Path) -> None:
    content = {"version": "1.0.0", "hook": {"path": "/bin/false"}, "when": {"always": True}, "stages": ["createRuntime"]}
    (files / "hooks" / "fails.json").write_text(json.dumps(content))
    pod = cdi_node.pod()
    with pytest.raises(grpc.RpcError):
        cdi_node.cri.create(pod.id, cdi_node.container_config("true"), pod.config)
    assert cdi_node.cri.containers(pod_sandbox_id=pod.id) == []
