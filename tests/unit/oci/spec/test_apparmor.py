"""AppArmor profiles."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError
from crid.linux.process import find_program
from crid.model.resources import HostResources
from crid.oci.spec import apparmor
from crid.oci.spec.inputs import Host

WITHOUT = Host(capabilities=frozenset(), resources=HostResources(cgroup_v2=True))
WITH = replace(WITHOUT, apparmor=True, apparmor_default_profile="crid-default")


def build(text: str, host: Host = WITH) -> str:
    return apparmor.build(text_format.Parse(text, cri.LinuxContainerSecurityContext()), host, frozenset({"mine", "old", "new"}))


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("", "crid-default"),
        ("apparmor { profile_type: RuntimeDefault }", "crid-default"),
        ("apparmor { profile_type: Unconfined }", ""),
        ("apparmor { profile_type: Localhost localhost_ref: 'localhost/mine' }", "mine"),
        ("apparmor { profile_type: Localhost localhost_ref: 'mine' }", "mine"),
        ("apparmor_profile: 'localhost/old'", "old"),
        ("apparmor_profile: 'unconfined'", ""),
        ("apparmor_profile: 'localhost/old' apparmor { profile_type: Localhost localhost_ref: 'new' }", "new"),
        ("privileged: true apparmor_profile: 'localhost/old'", ""),
    ],
)
def test_choice(text: str, profile: str) -> None:
    assert build(text) == profile


def test_a_host_without_apparmor() -> None:
    assert build("", WITHOUT) == ""
    with pytest.raises(FailedPreconditionError, match="mine"):
        build("apparmor_profile: 'localhost/mine'", WITHOUT)


@pytest.mark.parametrize(
    "text", ["apparmor_profile: 'mine'", "apparmor_profile: 'localhost/'", "apparmor { profile_type: Localhost }"]
)
def test_refusals(text: str) -> None:
    kind: type[CridError] = InvalidArgumentError
    with pytest.raises(kind, match="apparmor"):
        build(text)


def test_a_profile_that_is_not_loaded_is_named() -> None:
    with pytest.raises(FailedPreconditionError, match="'other' is not loaded"):
        build("apparmor { profile_type: Localhost localhost_ref: 'localhost/other' }")


def test_without_a_default_profile_only_who_asks_for_it_is_refused() -> None:
    """An explicit RuntimeDefault is a promise; asking for nothing takes what there is."""
    lacking = replace(WITH, apparmor_default_profile="")
    asked = "apparmor { profile_type: RuntimeDefault }"
    assert build("", lacking) == ""
    with pytest.raises(FailedPreconditionError, match="default profile"):
        build(asked, lacking)
    assert build(asked, replace(lacking, apparmor_disabled=True)) == ""


@pytest.mark.skipif(find_program("apparmor_parser") is None, reason="apparmor_parser is not installed")
def test_the_default_profile_compiles(tmp_path: Path) -> None:
    """For a kernel with every feature that the parser knows; it need not be this one."""
    path = tmp_path / "profile"
    path.write_text(apparmor.default_profile())
    done = subprocess.run(["apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names", path], capture_output=True)
    assert (done.returncode, done.stdout.split()) == (0, [apparmor.DEFAULT_PROFILE.encode()]), done.stderr
