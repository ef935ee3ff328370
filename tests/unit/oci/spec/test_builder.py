"""The whole document: golden files for typical containers, and what only the builder knows.

`CRID_REGENERATE_GOLDEN=1 pytest tests/unit/oci/spec` writes the files anew; read the difference before committing it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.model.device import Device
from crid.oci.spec.builder import encode
from crid.oci.spec.inputs import BuiltSpec, SpecInputs
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION

Make = Callable[..., BuiltSpec]
GOLDEN = Path(__file__).parent / "golden"
PRIVILEGED = "linux { security_context { privileged: true } }"
TYPICAL = {
    "plain": "",
    "kubelet": """
        command: "/bin/app" args: "--port=80" working_dir: "/srv" envs { key: "A" value: "2" }
        mounts { container_path: "/etc/hosts" host_path: "/host" }
        mounts { container_path: "/data" host_path: "/link" }
        linux {
          resources { cpu_period: 100000 cpu_quota: 50000 cpu_shares: 512 memory_limit_in_bytes: 67108864 oom_score_adj: 985 }
          security_context {
            run_as_user { value: 101 } no_new_privs: true readonly_rootfs: true
            capabilities { drop_capabilities: "ALL" add_capabilities: "NET_BIND_SERVICE" }
            masked_paths: "/proc/kcore" readonly_paths: "/proc/sys" seccomp { profile_type: RuntimeDefault }
          }
        }""",
    "privileged": PRIVILEGED,
    "terminal": "tty: true stdin: true linux { security_context { namespace_options { pid: NODE } } }",
    "devices": """
        devices { container_path: "/dev/fuse" host_path: "/dev/fuse" permissions: "rw" }
        linux { resources { hugepage_limits { page_size: "2MB" limit: 4194304 } } }
        linux { resources { unified { key: "memory.high" value: "1" } } }""",
    "propagation": "mounts { container_path: '/d' host_path: '/host' propagation: PROPAGATION_BIDIRECTIONAL }",
}


@pytest.mark.parametrize("name", TYPICAL)
def test_golden(make: Make, name: str) -> None:
    built = make(
        TYPICAL[name],
        pod=PRIVILEGED if name == "privileged" else "",
        devices={"/dev/fuse": (Device("/dev/fuse", "c", 10, 229),)},
    )
    built.spec["annotations"].pop(PROGRAM_ANNOTATION, None)  # says the same as linux.seccomp: test_bpf
    text = json.dumps(built.spec, indent=2, sort_keys=True) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("CRID_REGENERATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(TYPICAL)


def test_a_privileged_container_needs_a_privileged_pod(make: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="privileged"):
        make(PRIVILEGED)


def test_nothing_of_the_request_is_changed(make: Make, inputs: SpecInputs) -> None:
    make(TYPICAL["kubelet"])
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
