from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.model.sandbox import PodSandbox, SandboxMetadata, SandboxStatus

METADATA = SandboxMetadata(
    id="b" * 64,
    name="k8s_POD_web_default_u_0",
    config=cri.PodSandboxConfig(),
    runtime_handler="",
    created_at=5,
    directory=Path("/var/lib/crid/pods/b"),
    run_directory=Path("/run/crid/pods/b"),
    hostname="web",
    cgroup_parent="/crid/b",
)


def test_what_must_survive_a_reboot_is_in_the_directory_and_the_rest_is_not() -> None:
    for path in (METADATA.resolv_conf, METADATA.hostname_file, METADATA.hosts_file):
        assert path.parent == METADATA.directory
    assert METADATA.shm_path.parent == METADATA.run_directory


def test_ready_until_stopped() -> None:
    sandbox = PodSandbox(METADATA, SandboxStatus())
    kept = sandbox.status
    assert kept.ready
    assert "ready" in repr(sandbox)
    sandbox.publish(SandboxStatus(stopped_at=7))
    assert not sandbox.status.ready
    assert kept.ready
    assert repr(sandbox) == "<PodSandbox bbbbbbbbbbbbb stopped k8s_POD_web_default_u_0>"
    assert (sandbox.id, sandbox.created_at) == ("b" * 64, 5)
