"""AppArmor: what the kernel's files say, and how the parser is called."""

from pathlib import Path

import pytest

from crid.errors import UnavailableError
from crid.linux import apparmor


def test_whether_it_is_enforced(tmp_path: Path) -> None:
    parameter = tmp_path / "enabled"
    assert not apparmor.enabled(parameter)
    parameter.write_text("N\n")
    assert not apparmor.enabled(parameter)
    parameter.write_text("Y\n")
    assert apparmor.enabled(parameter)


def test_names_of_loaded_profiles(tmp_path: Path) -> None:
    """Spaces and brackets may be in a name; the mode comes last."""
    listing = tmp_path / "profiles"
    listing.write_text("crid-default (enforce)\n/usr/sbin/a (b) (complain)\nns//x (unconfined)\n")
    assert apparmor.loaded(listing) == {"crid-default", "/usr/sbin/a (b)", "ns//x"}
    with pytest.raises(OSError, match="missing"):
        apparmor.loaded(tmp_path / "missing")


async def test_the_parsers_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = tmp_path / apparmor.PARSER
    parser.write_text("#!/bin/sh\ncat >&2\nexit 3\n")
    parser.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnavailableError, match="the profile's text"):
        await apparmor.load("the profile's text")
    parser.write_text("#!/bin/sh\ngrep -q right\n")
    await apparmor.load("right")
