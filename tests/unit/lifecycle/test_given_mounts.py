"""What containers are given unasked: volumes of the image, copies of the node's directories."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import CridError
from crid.lifecycle import given_mounts
from crid.model.idmap import IdMap, IdRange
from crid.model.image import Image, ImageProcess
from crid.oci.spec.policy import Policy

OWN = IdMap.of(IdRange(os.getuid(), 1), IdRange(os.getgid(), 1))


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/srv").mkdir(parents=True)
    (tmp_path / "bundle").mkdir()
    return tmp_path / "rootfs"


def make(rootfs: Path, *volumes: str, mounts: tuple[str, ...] = (), **rules: Any) -> dict[str, str]:
    image = Image("sha256:0", (), (), 0, ImageProcess(volumes=volumes), (), "")
    config = cri.ContainerConfig(mounts=[cri.Mount(container_path=path) for path in mounts])
    bundle = rootfs.parent / "bundle"
    policy = Policy(**rules)
    return given_mounts.make(policy, image, config, rootfs=rootfs, bundle=bundle, kept=rootfs.parent / "kept", idmap=OWN)


def test_volumes_are_made_within_the_image(rootfs: Path) -> None:
    (rootfs / "out").symlink_to("/srv")
    assert make(rootfs, "/data/deep", "/out/below/", "/", "../../up", "/taken", mounts=("/taken/",)) == {}
    assert sorted(str(path.relative_to(rootfs)) for path in rootfs.rglob("*") if path.is_dir()) == [
        "data",
        "data/deep",
        "out",
        "srv",
        "srv/below",
    ]


def test_a_volume_that_is_a_file_of_the_image_stays_one(rootfs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (rootfs / "file").touch()
    assert make(rootfs, "/file/below") == {}
    assert "/file/below" in caplog.text


def test_volumes_of_the_host(rootfs: Path) -> None:
    (rootfs / "srv").chmod(0o1770)
    found = make(rootfs, "/srv", "/new", image_volumes="bind")
    kept = rootfs.parent / "kept/volumes"
    assert found == {"/srv": str(kept / "0"), "/new": str(kept / "1")}
    assert [(kept / name).stat().st_mode & 0o7777 for name in "01"] == [0o1770, 0o755]
    assert not (rootfs / "new").exists()


def test_volumes_may_be_ignored(rootfs: Path) -> None:
    assert make(rootfs, "/new", image_volumes="ignore") == {}
    assert not (rootfs / "new").exists()


def test_default_mounts_are_copies(rootfs: Path, tmp_path: Path) -> None:
    source = tmp_path / "secrets"
    source.mkdir()
    (source / "real").write_text("secret")
    (source / "link").symlink_to("real")
    (source / "dangling").symlink_to("nowhere")
    (tmp_path / "one").write_text("1")
    mounts = ((str(source), "/run/secrets"), (str(tmp_path / "one"), "/one"), ("/none", "/none"), (str(source), "/taken"))
    found = make(rootfs, "/run/secrets", default_mounts=mounts, mounts=("/taken",))
    assert set(found) == {"/run/secrets", "/one"}
    copy = Path(found["/run/secrets"])
    assert {path.name: (path.is_symlink(), path.read_text()) for path in copy.iterdir()} == {
        "real": (False, "secret"),
        "link": (False, "secret"),
    }
    (copy / "real").write_text("changed")
    assert (source / "real").read_text() == "secret"


def test_a_copy_that_fails(rootfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", fail)
    (tmp_path / "secrets").mkdir()
    with pytest.raises(CridError, match=r"default_mounts_file: .*secrets.*No space"):
        make(rootfs, default_mounts=((str(tmp_path / "secrets"), "/run/secrets"),))
