import errno
import json
import logging
import os
from pathlib import Path

import pytest

from crid.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.image.service import ImageService
from crid.store.layers import LayerStore
from crid.tasks import Supervisor
from tests.harness.image_bench import Bench
from tests.harness.layers import file, image, layer

pytestmark = pytest.mark.root


async def pulled(bench: Bench, name: str = "a", tag: str = "latest", content: str = "x") -> str:
    reference = bench.registry.add(name, image([layer(file("f", content.encode() * 5000))]), tag)
    await bench.service.pull(reference)
    return reference


def blobs(bench: Bench) -> list[str]:
    return [path for path in bench.files() if path.startswith("images/blobs/")]


async def test_removal_by_one_tag_takes_all_and_is_idempotent(bench: Bench) -> None:
    one, two = await pulled(bench, tag="1"), await pulled(bench, tag="2")
    other = await pulled(bench, "b")
    assert len(bench.service.list_images()) == 1  # the same image from two repositories
    await bench.service.remove(one)
    await bench.service.remove(one)
    assert [bench.service.status(name) for name in (one, two, other)] == [None, None, None]
    assert bench.files() == []
    await bench.service.remove("0" * 64)


async def test_a_removal_that_a_death_cuts_off_is_finished_by_the_next_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its blobs do not wait for a pull that would go on with them; those of another image stay."""
    other = await pulled(bench, "other", content="y")
    kept = blobs(bench)
    doomed = await pulled(bench)

    async def die() -> None:
        raise SystemExit

    monkeypatch.setattr(bench.service, "collect", die)
    with pytest.raises(SystemExit):
        await bench.service.remove(doomed)
    service = ImageService(bench.root, bench.conf, bench.supervisor)
    service.load()
    assert [found.repo_tags for found in service.list_images()] == [(other,)]
    assert blobs(bench) == kept
    await service.close()


async def test_an_image_in_use_is_not_removed(bench: Bench) -> None:
    """By whatever name, after a restart too; a container on an image that has all its layers is no user of it."""
    reference, volume = await pulled(bench), await pulled(bench, "volume", content="y")
    base, mounted = bench.service.resolve(reference), bench.service.resolve(volume)
    bench.service.prepare_rootfs("c1", base, volumes=[mounted])
    bench.service.prepare_rootfs("c2", base)
    service = ImageService(bench.root, bench.conf, bench.supervisor)
    service.load()
    for name in (reference, base.id, base.id[7:20], base.repo_digests[0]):
        with pytest.raises(FailedPreconditionError, match=f"image {name}: is in use by container c1 and 1 more"):
            await service.remove(name)
    with pytest.raises(FailedPreconditionError, match=f"image {volume}: is in use by container c1$"):
        await service.remove(volume)
    assert service.list_images() == bench.service.list_images()
    upper = image([layer(file("f", b"x" * 5000)), layer(file("g"))])
    await service.pull(bench.registry.add("upper", upper))
    await service.release_rootfs("c1")
    await service.remove(volume)
    await service.release_rootfs("c2")
    service.prepare_rootfs("c3", service.resolve(upper.id))
    await service.remove(reference)
    assert [found.id for found in service.list_images()] == [upper.id]
    await service.release_rootfs("c3")
    await service.remove(upper.id)
    assert bench.files() == []
    await service.close()


async def test_the_layers_of_a_container_stay_whatever_becomes_of_its_image(bench: Bench) -> None:
    """A removal may meet a container's creation, or a record that does not tell of images."""
    reference = await pulled(bench)
    found = bench.service.resolve(reference)
    snapshot = bench.service.prepare_rootfs("c1", found)
    (bench.root / "snapshots/c1/record.json").write_text(json.dumps({"chain_ids": found.chain_ids}))
    service = ImageService(bench.root, bench.conf, bench.supervisor)
    service.load()
    await service.remove(reference)
    assert service.list_images() == []
    lower = Path(snapshot.mount.options[0].removeprefix("lowerdir="))
    assert (lower / "f").exists()
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    again.load()
    assert (lower / "f").exists()
    await again.close()
    await service.release_rootfs("c1")
    await service.release_rootfs("c1")
    assert bench.files() == []
    await service.close()


async def test_a_restart_finds_the_same_images(bench: Bench) -> None:
    await pulled(bench)
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    again.load()
    assert again.list_images() == bench.service.list_images()
    assert again.fs_usage() == bench.service.fs_usage()
    await again.close()


async def test_usage_is_counted(bench: Bench) -> None:
    assert (bench.service.fs_usage().used_bytes, bench.service.fs_usage().inodes_used) == (0, 0)
    reference = await pulled(bench)
    usage = bench.service.fs_usage()
    assert usage.used_bytes == bench.service.resolve(reference).size + 8192  # 5000 bytes in blocks of 4096
    assert usage.inodes_used == 4
    assert Path(usage.mountpoint).is_dir()


async def test_lists_and_filters(bench: Bench) -> None:
    one = await pulled(bench, "a", content="1")
    two = await pulled(bench, "b", content="2")
    assert [image.repo_tags for image in bench.service.list_images(one)] == [(one,)]
    assert len(bench.service.list_images()) == 2
    assert bench.service.list_images("q.io/nothing") == []
    bench.service.pin(two)
    assert {image.repo_tags: image.pinned for image in bench.service.list_images()} == {(one,): False, (two,): True}


async def test_lookups_that_fail(bench: Bench) -> None:
    assert bench.service.status("q.io/gone:1") is None
    assert bench.service.status("sha256:" + "0" * 64) is None
    assert bench.service.status("0" * 64) is None
    with pytest.raises(NotFoundError, match="/gone"):
        bench.service.resolve("q.io/gone")
    for reference in ("", "UPPER CASE", "a//b"):
        with pytest.raises(InvalidArgumentError):
            bench.service.status(reference)


async def test_a_damaged_record_does_not_stop_the_start(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    reference = await pulled(bench, "a", content="1")
    await pulled(bench, "b", content="2")
    record = bench.root / "images/records" / f"{bench.service.resolve(reference).id[7:]}.json"
    record.write_text("{")
    again = ImageService(bench.root, bench.conf, bench.supervisor)
    with caplog.at_level(logging.ERROR):
        again.load()
    assert len(again.list_images()) == 1
    assert str(record) in caplog.text
    await again.close()


async def test_secrets_are_not_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    from crid.cri import api_pb2 as cri

    with caplog.at_level(logging.DEBUG), pytest.raises(NotFoundError):
        await bench.service.pull(f"{bench.registry.address}/gone", cri.AuthConfig(username="joe", password="s3cr3t-word"))
    assert caplog.text
    assert "s3cr3t-word" not in caplog.text


async def test_the_http_library_is_imported_only_for_a_pull(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = "import sys, crid.image.service; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    service = ImageService(tmp_path, tmp_path / "none.conf", Supervisor("x"))
    service.load()
    await service.close()


async def test_a_removed_container_costs_no_search_for_garbage(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, removed = await pulled(bench, "a", content="1"), await pulled(bench, "b", content="2")
    for number in range(2):
        bench.service.prepare_rootfs(f"c{number}", bench.service.resolve(kept))
    bench.service._stores.layers.prepare("c2", bench.service.resolve(removed).chain_ids)  # nobody knows of which image
    searches: list[int] = []
    collect = bench.service.collect

    async def counted() -> None:
        searches.append(1)
        await collect()

    monkeypatch.setattr(bench.service, "collect", counted)
    await bench.service.release_rootfs("c0")
    assert searches == []
    await bench.service.remove(removed)
    await bench.service.release_rootfs("c1")
    assert len(searches) == 1
    await bench.service.release_rootfs("c2")
    assert len(searches) == 2
    assert len(bench.service._stores.layers.layers()) == 1


async def test_garbage_that_a_broken_disk_does_not_let_go_fails_no_removal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can go goes at once, and the rest the next time."""
    reference = await pulled(bench)
    [chain_id] = bench.service.resolve(reference).chain_ids

    def refuse(store: LayerStore, identifier: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), identifier)

    with monkeypatch.context() as broken:
        broken.setattr(LayerStore, "discard", refuse)
        await bench.service.remove(reference)
    assert bench.service.status(reference) is None
    assert all(path.startswith((f"layers/{chain_id[7:]}/", "layers/l/")) for path in bench.files())
    assert bench.service.fs_usage().inodes_used == 1
    await bench.service.collect()
    assert bench.files() == []
