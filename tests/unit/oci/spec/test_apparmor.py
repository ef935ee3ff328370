"""AppArmor profiles."""

from dataclasses import replace

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError
from crid.model.resources import HostResources
from crid.oci.spec import apparmor
from crid.oci.spec.inputs import Host

WITHOUT = Host(capabilities=frozenset(), resources=HostResources(cgroup_v2=True))
WITH = replace(WITHOUT, apparmor=True, apparmor_default_profile="crid-default")


def build(text: str, host: Host = WITH) -> str:
    return apparmor.build(text_format.Parse(text, cri.LinuxContainerSecurityContext()), host)


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
