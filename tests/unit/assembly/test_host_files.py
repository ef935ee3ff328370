"""Files of the host that the configuration names."""

from pathlib import Path

import pytest

from crid.assembly import host_files
from crid.errors import InvalidArgumentError


def test_time_zones(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe/Berlin").touch()
    (tmp_path / "localtime").symlink_to("Europe/Berlin")

    def found(name: str) -> str:
        return host_files.localtime(name, tmp_path, tmp_path / "localtime")

    assert found("") == ""
    assert found("Europe/Berlin") == found("Local") == str(tmp_path / "Europe/Berlin")
    for wrong in ("Europe/Atlantis", "Europe", "local", "/etc/passwd", "../localtime"):
        with pytest.raises(InvalidArgumentError, match="time zone"):
            found(wrong)


def test_default_mounts(tmp_path: Path) -> None:
    file = tmp_path / "mounts.conf"
    file.write_text("# a comment\n\n/usr/share/secrets:/run/secrets/\n/both\n")
    wanted = (("/usr/share/secrets", "/run/secrets"), ("/both", "/both"))
    assert host_files.default_mounts(str(file)) == host_files.default_mounts("", ["/none", str(file)]) == wanted
    assert host_files.default_mounts("", ["/none"]) == ()
    other = tmp_path / "other.conf"
    other.write_text("/mine")
    assert host_files.default_mounts("", [str(file), str(other)]) == (("/mine", "/mine"),)
    for wrong in ("relative:/x", "/x:relative", "/x:/"):
        other.write_text(wrong)
        with pytest.raises(InvalidArgumentError, match=r"other\.conf: .* is not /SRC:/DST"):
            host_files.default_mounts(str(other))
    with pytest.raises(InvalidArgumentError, match="No such file"):
        host_files.default_mounts("/none")


def test_a_file_is_written_once_and_for_all_to_read(tmp_path: Path) -> None:
    for text in ("", "0\n", "0\n"):
        path = Path(host_files.written(tmp_path / "file", text))
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o444)


def test_a_seccomp_profile_is_tried(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    assert host_files.seccomp_profile("") is None
    assert host_files.seccomp_profile(str(path)) == path.read_text()
    path.write_text('{"defaultAction": "SCMP_ACT_DANCE"}')
    with pytest.raises(InvalidArgumentError, match="DANCE"):
        host_files.seccomp_profile(str(path))
