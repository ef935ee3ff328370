"""One ordinary pod, image and host, of which a test changes what it is about."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.model.device import Device
from crid.model.image import Image, ImageProcess
from crid.model.resources import HostResources
from crid.model.sandbox import NamespacePaths, SandboxMetadata
from crid.oci.spec import userns
from crid.oci.spec.builder import build
from crid.oci.spec.capabilities import KNOWN
from crid.oci.spec.inputs import BuiltSpec, Host, SpecInputs

HOST = Host(
    capabilities=frozenset(KNOWN) - {"CAP_SYS_RESOURCE"},
    resources=HostResources(cgroup_v2=True, hugepage_sizes=frozenset({"2MB"}), swap_accounting=True),
    oom_score_adj=-100,
    can_lower_oom_score=False,
    devices=(Device("/dev/kmsg", "c", 1, 11, 0o640, 0, 4),),
    recursive_read_only=True,
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnginx:x:101:102:web:/var/cache/nginx:/sbin/nologin\n"
GROUP = "root:x:0:\nwheel:x:10:root\nnginx:x:102:\nmedia:x:500:nginx,other\n"
IMAGE = Image(
    id="sha256:" + "1" * 64,
    repo_tags=("registry.example/web:1",),
    repo_digests=(),
    size=1,
    process=ImageProcess(entrypoint=("/entry",), cmd=("serve",), env=("PATH=/bin", "A=1")),
    chain_ids=(),
    manifest_digest="sha256:" + "2" * 64,
)


@pytest.fixture
def inputs() -> SpecInputs:
    """Return the inputs of a container that asks for nothing special."""
    pod = cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name="web", namespace="default", uid="uid-1"))
    config = text_format.Parse(
        """
        metadata { name: "nginx" }
        image { image: "registry.example/web:1" }
        linux { security_context { namespace_options { pid: CONTAINER } seccomp { profile_type: Unconfined } } }
        """,
        cri.ContainerConfig(),
    )
    sandbox = SandboxMetadata(
        id="5" * 64,
        name="k8s_POD_web_default_uid-1_0",
        config=pod,
        runtime_handler="",
        created_at=1,
        directory=Path("/var/lib/crid/sandboxes/5"),
        run_directory=Path("/run/crid/sandboxes/5"),
        hostname="web",
        cgroup_parent="/kubepods/pod1",
        namespaces=NamespacePaths(net="/run/ns/net", ipc="/run/ns/ipc", uts="/run/ns/uts"),
    )
    return SpecInputs(
        container_id="c" * 64,
        config=config,
        sandbox=sandbox,
        image=IMAGE,
        rootfs="/run/crid/containers/c/rootfs",
        cgroup_path="/kubepods/pod1/c",
        host=HOST,
        passwd=PASSWD,
        group=GROUP,
        sources={"/host": "/host", "/link": "/target"},
    )


@pytest.fixture
def make(inputs: SpecInputs) -> Callable[..., BuiltSpec]:
    """Return a function that builds the ordinary container, with a config in text form merged in and inputs replaced."""

    def build_with(config: str = "", pod: str = "", **changes: Any) -> BuiltSpec:
        text_format.Merge(config, inputs.config)
        text_format.Merge(pod, inputs.sandbox.config)
        sandbox = changes.pop("sandbox", inputs.sandbox)
        idmap = userns.wanted(sandbox.config.linux.security_context.namespace_options)
        return build(replace(inputs, sandbox=replace(sandbox, idmap=idmap), **changes))

    return build_with
