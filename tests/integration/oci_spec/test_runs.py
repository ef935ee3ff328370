"""Specs that `build` makes, run by the real crun and runc: both must take them, and the kernel must agree with them.

Each container gets a busybox root and the namespaces of a throw-away `unshare`, in which the cgroup v2 mount of a hybrid
host is taken away, since crun refuses such hosts.
"""

import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.model.image import Image, ImageProcess
from crid.model.resources import HostResources
from crid.model.sandbox import SandboxMetadata
from crid.oci.spec.builder import build, encode
from crid.oci.spec.capabilities import KNOWN
from crid.oci.spec.inputs import Host, SpecInputs

BUSYBOX = Path("/bin/busybox")
ENTER = 'mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified; exec "$@"'
APPLETS = ("sh", "cat", "chmod", "grep", "id", "mount", "touch", "unshare", "hostname")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="busybox-static is not installed"),
]

Run = Callable[..., str]


def held() -> frozenset[str]:
    """Return the capabilities of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return frozenset(name for bit, name in enumerate(KNOWN) if int(line.split()[1], 16) >> bit & 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory with a root file system, the pod's files, and room for a runtime's state."""
    binaries = tmp_path / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy2(BUSYBOX, binaries / "busybox")
    for name in APPLETS:
        (binaries / name).symlink_to("busybox")
    for path in ("rootfs/etc", "rootfs/tmp", "rootfs/srv", "pod", "run/shm"):
        (tmp_path / path).mkdir(parents=True)
    for name in ("resolv.conf", "hostname", "hosts"):
        (tmp_path / "pod" / name).write_text(f"the pod's {name}\n")
    return tmp_path


@pytest.fixture(params=["crun", "runc"])
def run(request: pytest.FixtureRequest, root: Path) -> Run:
    """Return a function that runs a shell script in a container and returns its output."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    name = f"crid-spec-{secrets.token_hex(4)}"

    def run_script(script: str, config: str = "", pod: str = "", localhost_seccomp: str | None = None) -> str:
        container = text_format.Parse(
            "linux { security_context { namespace_options { pid: CONTAINER } } }",
            cri.ContainerConfig(command=["sh", "-c", script]),
        )
        text_format.Merge(config, container)
        sandbox = SandboxMetadata(
            id=name,
            name=name,
            config=text_format.Parse(pod, cri.PodSandboxConfig()),
            runtime_handler="",
            created_at=1,
            directory=root / "pod",
            run_directory=root / "run",
            hostname="web",
            cgroup_parent="",
        )
        inputs = SpecInputs(
            container_id=name,
            config=container,
            sandbox=sandbox,
            image=Image("sha256:0", (), (), 0, ImageProcess(), (), ""),
            rootfs=str(root / "rootfs"),
            cgroup_path=f"/{name}",
            host=Host(
                capabilities=held(),
                resources=HostResources(cgroup_v2=Path("/sys/fs/cgroup/cgroup.controllers").exists()),
                machine=platform.machine(),
                can_lower_oom_score=False,
                oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
            ),
            passwd=PASSWD,
            sources={"/tmp": str(root / "run")},
            localhost_seccomp=localhost_seccomp,
        )
        (root / "config.json").write_bytes(encode(build(inputs).spec))
        inside = [program, "--root", str(root / "state"), "run", "--bundle", str(root), name]
        done = subprocess.run(
            ["unshare", "--mount", "--net", "--ipc", "--uts", "sh", "-c", ENTER, "sh", *inside],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.stdout.decode("utf-8", "surrogateescape")

    return run_script


def status(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def capability_mask(names: str) -> str:
    return f"{sum(1 << KNOWN.index(f'CAP_{name}') for name in names.split()):016x}"


def test_an_ordinary_container(run: Run) -> None:
    out = run("cat /proc/self/status /etc/resolv.conf; echo HOME:$HOME")
    found = status(out)
    default = capability_mask("CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL")
    assert found["CapEff"] == found["CapPrm"] == found["CapBnd"] == default
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["Seccomp"] == "0"
    assert found["HOME"] == "/root"
    assert "the pod's resolv.conf" in out


def test_another_user_keeps_only_the_bounding_set(run: Run) -> None:
    found = status(
        run(
            "cat /proc/self/status",
            "linux { security_context { run_as_username: 'web' supplemental_groups: 7 no_new_privs: true } }",
        )
    )
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Groups"] == "7 1000"
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0
    assert int(found["CapBnd"], 16) != 0
    assert found["NoNewPrivs"] == "1"


def test_ambient_capabilities_reach_another_user(run: Run) -> None:
    found = status(
        run(
            "cat /proc/self/status",
            "linux { security_context { run_as_user { value: 5 } capabilities { add_ambient_capabilities: 'NET_RAW' } } }",
        )
    )
    assert found["CapEff"] == found["CapAmb"] == capability_mask("NET_RAW")


def test_dropping_all(run: Run) -> None:
    found = status(run("cat /proc/self/status", "linux { security_context { capabilities { drop_capabilities: 'ALL' } } }"))
    assert int(found["CapBnd"], 16) == 0


def test_the_default_seccomp_profile(run: Run) -> None:
    out = run(
        "grep Seccomp: /proc/self/status; unshare -U true; mount -t tmpfs x /tmp; touch /tmp/works && echo works",
        "linux { security_context { seccomp { profile_type: RuntimeDefault } } }",
    )
    assert status(out)["Seccomp"] == "2"
    assert "unshare: unshare(0x10000000): Operation not permitted" in out
    assert "works" in out


def test_a_profile_of_the_nodes(run: Run) -> None:
    profile = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}'
    out = run(
        "touch /tmp/x; chmod 600 /tmp/x",
        "linux { security_context { seccomp { profile_type: Localhost localhost_ref: '/p.json' } } }",
        localhost_seccomp=profile,
    )
    assert "Operation not permitted" in out


def test_read_only_root_and_mounts(run: Run, root: Path) -> None:
    out = run(
        "touch /x; touch /rw/made; touch /ro/made; touch /dev/shm/y && echo shm",
        """
        linux { security_context { readonly_rootfs: true } }
        mounts { container_path: "/rw" host_path: "/tmp" }
        mounts { container_path: "/ro" host_path: "/tmp" readonly: true }
        """,
    )
    assert "/x: Read-only file system" in out
    assert "/ro/made: Read-only file system" in out
    assert "shm" in out
    assert (root / "run" / "made").exists()


def test_masked_and_read_only_paths(run: Run) -> None:
    out = run(
        "cat /etc/hosts; touch /srv/x",
        "linux { security_context { masked_paths: '/etc/hosts' readonly_paths: '/srv' } }",
    )
    assert "the pod's hosts" not in out
    assert "/srv/x: Read-only file system" in out


def test_a_privileged_container(run: Run) -> None:
    privileged = "linux { security_context { privileged: true } }"
    found = status(run("cat /proc/self/status; mount | grep ' /sys ' | grep -q '(rw' && echo SYS:rw", privileged, privileged))
    assert {name for bit, name in enumerate(KNOWN) if int(found["CapEff"], 16) >> bit & 1} == held()
    assert found["Seccomp"] == "0"
    assert found["SYS"] == "rw"


def test_an_environment_that_is_no_text(run: Run) -> None:
    assert "got a\ufffdb" in run("echo got $RAW", "envs { key: 'RAW' value: 'a\\377b' }")
