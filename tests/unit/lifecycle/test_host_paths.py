"""Host paths of mounts: links followed, missing ones made only when asked, nothing outside of a prefix."""

from pathlib import Path

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import FailedPreconditionError, InvalidArgumentError
from crid.lifecycle import host_paths


def config(*paths: Path | str) -> cri.ContainerConfig:
    return cri.ContainerConfig(mounts=[cri.Mount(container_path="/a", host_path=str(path)) for path in paths])


def test_links_are_followed_and_nothing_is_made_before_its_time(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    found = host_paths.sources(config(tmp_path / "link"), "", ())
    assert found == {str(tmp_path / "link"): str(tmp_path / "target")}
    assert not (tmp_path / "target").exists()
    for _ in range(2):
        host_paths.make(found)
    assert (tmp_path / "target").is_dir()


def test_one_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file/below")
    with pytest.raises(InvalidArgumentError, match=rf"mounts\[1\]\.host_path: {path}"):
        host_paths.sources(config(tmp_path / "good", path), "", ())
    assert not (tmp_path / "good").exists()
    with pytest.raises(InvalidArgumentError, match=f"host_path: {path}"):
        host_paths.make({path: path})


def test_one_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").mkdir()
    for path, why in ((tmp_path / "loop", "Too many levels"), (tmp_path / ("n" * 256), "File name too long")):
        mounts = [cri.Mount(host_path=each, container_path="/m") for each in (str(tmp_path / "there"), str(path))]
        with pytest.raises(InvalidArgumentError, match=rf"^mounts\[1\]\.host_path: .*{why}"):
            host_paths.sources(cri.ContainerConfig(mounts=mounts), "", ())


def test_one_that_is_not_to_be_made(tmp_path: Path) -> None:
    refused = frozenset({str(tmp_path / "hostname")})
    for path in (f"{tmp_path}/hostname", f"{tmp_path}/./hostname/"):
        with pytest.raises(FailedPreconditionError, match=r"mounts\[0\]\.host_path: .* does not exist"):
            host_paths.sources(config(path), "", refused)
    (tmp_path / "hostname").touch()
    assert host_paths.sources(config(tmp_path / "hostname"), "", refused)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/etc/x", "host/etc/x"),
        ("/etc/x/missing/deep", "host/etc/x/missing/deep"),
        ("/missing", "host/missing"),
        ("/absolute/x", "host/etc/x"),
        ("/up/x", "host/etc/x"),
        ("/absolute/missing", "host/etc/missing"),
        ("/etc/../../../etc/x", "host/etc/x"),
        ("/", "host"),
    ],
)
def test_the_hosts_root_below_a_prefix(tmp_path: Path, asked: str, found: str) -> None:
    host = tmp_path / "host"
    (host / "etc/x").mkdir(parents=True)
    (host / "absolute").symlink_to("/etc")
    (host / "up").symlink_to("../../../etc")
    assert host_paths.resolve(asked, str(host)) == str(tmp_path / found)
