"""The whole document: golden files, at least one for each concern, and what only the builder knows.

`golden/NAME.txtpb` is a request in the text form of the CRI's messages, `golden/NAME.json` the config.json that comes of it.

    CRID_REGENERATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/oci/spec/test_builder.py

writes the latter anew; read the difference before committing it.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.lifecycle import namespaces
from crid.model.device import Device
from crid.model.resources import HostResources
from crid.oci.spec import selinux
from crid.oci.spec.asked import OLDER, USERNS_MODE, of_container
from crid.oci.spec.builder import build, check, encode
from crid.oci.spec.inputs import BuiltSpec, Host, SpecInputs, Volume
from crid.oci.spec.policy import AskedDevice, Policy, Ulimit
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION
from crid.oci.spec.userns_request import requested

Make = Callable[..., BuiltSpec]
GOLDEN = Path(__file__).parent / "golden"
PRIVILEGED = "linux { security_context { privileged: true } }"
FUSE = Device("/dev/fuse", "c", 10, 229)
RULES = Policy(
    environment=("GIVEN=by the node",),
    ulimits=(Ulimit("nofile", 1024, 4096),),
    additional_devices=((AskedDevice("/dev/kvm", "/dev/kvm", "rw"), Device("/dev/kvm", "c", 10, 232)),),
    inheritable_capabilities=True,
    device_ownership=True,
    read_only=True,
    localtime="/usr/share/zoneinfo/Asia/Kathmandu",
)
MACHINES: dict[str, Callable[[Host], Host]] = {
    "annotations": lambda host: replace(host, policy=Policy(allowed_annotations=("example.io/*",))),
    "apparmor": lambda host: replace(host, apparmor=True, apparmor_default_profile="crid-default"),
    "asked": lambda host: replace(host, policy=Policy(allowed_annotations=tuple(OLDER))),
    "policy": lambda host: replace(host, policy=RULES, container_env="/run/crid/containerenv"),
    "resources_v1": lambda host: replace(host, resources=HostResources(cgroup_v2=False, swap_accounting=False)),
    "user_namespace": lambda host: replace(host, user_namespaces=True),
    "user_namespace_asked": lambda host: replace(host, user_namespaces=True, policy=Policy(allowed_annotations=(USERNS_MODE,))),
}
"""The cases for which the machine or its configuration is not the usual one."""
CASES = sorted(path.stem for path in GOLDEN.glob("*.txtpb"))


def golden_inputs(name: str, usual: SpecInputs) -> SpecInputs:
    """Return what `golden/NAME.txtpb` asks for, a CreateContainerRequest, on the usual machine or that of the case."""
    request = text_format.Parse((GOLDEN / f"{name}.txtpb").read_text(), cri.CreateContainerRequest())
    config, pod = request.config, request.sandbox_config
    host = MACHINES[name](usual.host) if name in MACHINES else usual.host
    labels = selinux.labels(config.linux.security_context, pod.linux.security_context, "5" * 64)
    userns = requested(pod, host.policy)
    idmap = userns.fixed if userns is not None else None
    pinned = namespaces.plan(pod, Path("/run/crid/sandboxes/5"), idmap)
    return replace(
        usual,
        config=config,
        sandbox=replace(usual.sandbox, config=pod, hostname=pod.hostname or "web", namespaces=pinned, idmap=idmap),
        host=host,
        pid_namespace="/proc/7/ns/pid" if name == "namespaces_target" else "",
        sources={mount.host_path: "/target" if mount.host_path == "/link" else mount.host_path for mount in config.mounts},
        volumes={0: Volume("/run/crid/containers/c/volumes/0", "sha256:9")} if name == "image_volume" else {},
        devices={"/dev/fuse": (FUSE,), "/dev/disks": (Device("/dev/disks/a", "b", 8, 1), Device("/dev/disks/b", "b", 8, 2))},
        apparmor_profiles=frozenset({"strict"}),
        asked=of_container(host.policy, pod.annotations, config.annotations, config.metadata.name),
        localhost_seccomp=(GOLDEN / "profile.json").read_text(),
        selinux_process_label=labels.process if name == "selinux" else "",
        selinux_mount_label=labels.mount if name == "selinux" else "",
    )


@pytest.mark.parametrize("name", CASES)
def test_golden(inputs: SpecInputs, name: str) -> None:
    asked = golden_inputs(name, inputs)
    check(asked)
    built = build(asked)
    built.spec["annotations"].pop(PROGRAM_ANNOTATION, None)  # says the same as linux.seccomp: test_bpf
    text = json.dumps(json.loads(encode(built.spec)), indent=2, sort_keys=True) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("CRID_REGENERATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*CASES, "profile"}
    assert MACHINES.keys() <= set(CASES)


def test_a_privileged_container_needs_a_privileged_pod(make: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="privileged"):
        make(PRIVILEGED)


def test_nothing_of_the_request_is_changed(make: Make, inputs: SpecInputs) -> None:
    make("linux { resources { oom_score_adj: 985 } }")
    before = inputs.config.SerializeToString(deterministic=True)
    make()
    assert inputs.config.SerializeToString(deterministic=True) == before


def test_warnings_say_what_was_not_given(make: Make) -> None:
    built = make(
        "linux { resources { oom_score_adj: -998 } security_context { capabilities { add_capabilities: 'SYS_RESOURCE' } } }"
    )
    assert built.spec["process"]["oomScoreAdj"] == -100
    assert len(built.warnings) == 2


def test_pids_limit(make: Make) -> None:
    assert "pids" not in make().spec["linux"]["resources"]
    assert make(pids_limit=100).spec["linux"]["resources"]["pids"] == {"limit": 100}


def test_labels(make: Make) -> None:
    spec = make(selinux_process_label="u:r:t:s0", selinux_mount_label="u:o:t:s0").spec
    assert (spec["process"]["selinuxLabel"], spec["linux"]["mountLabel"]) == ("u:r:t:s0", "u:o:t:s0")


def test_bytes_that_are_no_text_become_the_replacement_character(make: Make) -> None:
    spec = make("envs { key: 'RAW' value: 'a\\377b' }").spec
    assert "RAW=a\ufffdb" in json.loads(encode(spec))["process"]["env"]


def test_text_is_written_as_utf_8(make: Make) -> None:
    assert "A=größer".encode() in encode(make("envs { key: 'A' value: 'größer' }").spec)
