"""The OCI runtime's command line and environment; what its verbs do is tested with the programs themselves."""

from pathlib import Path

import pytest

from crid.oci.program import RuntimeCommand, RuntimeProgram, environment


@pytest.mark.parametrize(("systemd", "words"), [(False, []), (True, ["--systemd-cgroup"])])
def test_the_cgroup_driver_is_said_with_every_verb(systemd: bool, words: list[str]) -> None:
    """With it the runtime asks systemd, by D-Bus, for slices and scopes; without it it makes directories itself."""
    program = RuntimeProgram("runc", Path("/usr/sbin/runc"), Path("/run/r"), Path("/m"), systemd_cgroup=systemd)
    argv = RuntimeCommand(program, {}).argv("update", "--resources", "-", "id")
    assert argv == ["/usr/sbin/runc", "--root", "/run/r", *words, "update", "--resources", "-", "id"]


def test_secrets_of_the_daemons_environment_stay_with_it() -> None:
    assert environment({"PATH": "/bin", "TZ": "UTC", "AWS_SECRET_ACCESS_KEY": "x"}) == {"PATH": "/bin", "TZ": "UTC"}
