"""Names, indexes and digests of either algorithm, from a scripted registry through a whole service."""

import asyncio
import json
import threading
from pathlib import Path

import pytest
from aiohttp import web

from crid.errors import CridError, DataLossError, InvalidArgumentError
from crid.image import resolve
from crid.image.exporter import export
from crid.store.verify import verify
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, artifact, digest_of, directory, file, image, index, layer

pytestmark = pytest.mark.root

LAYERS = [layer(directory("d"), file("d/a", b"1" * 9000)), layer(file("d/b", b"2"))]


def sha512(compression: str = "gzip") -> MadeImage:
    return image(LAYERS, algorithm="sha512", compression=compression)


@pytest.mark.parametrize("compression", ["", "gzip"])
async def test_an_image_whose_parts_are_called_by_sha512(bench: Bench, compression: str, tmp_path: Path) -> None:
    """It is pulled, found by its id, run, checked, kept over a restart, exported, imported and removed like any other."""
    made = sha512(compression)
    reference = bench.registry.add("a", made)
    found = await bench.service.pull(reference)
    assert found.id == made.id == digest_of(made.blobs[made.id], "sha512")
    for name in (found.id, found.id[7:], found.id[7:19], found.id[:19], reference, *found.repo_digests):
        assert bench.service.status(name) == found
    snapshot = bench.service.prepare_rootfs("c1", found)
    lower = snapshot.mount.options[0].removeprefix("lowerdir=").split(":")
    assert [(Path(one) / "d" / name).exists() for one, name in zip(lower, "ba", strict=True)] == [True, True]
    await bench.service.release_rootfs("c1")
    assert verify(bench.root) == []
    export([bench.root], [reference], tmp_path / "a.tar")
    bench.service.load()
    assert bench.service.list_images() == [found]
    usage = bench.service.fs_usage()
    await bench.service.remove(found.id)
    assert bench.service.fs_usage().inodes_used == 0 < usage.inodes_used
    assert await bench.service.import_path(tmp_path / "a.tar") == [bench.service.status(reference)]
    assert bench.service.resolve(reference).id == made.id
    assert verify(bench.root) == []


async def test_a_damaged_blob_of_sha512_is_found(bench: Bench) -> None:
    made = sha512()
    await bench.service.pull(bench.registry.add("a", made))
    path = bench.root / "images/blobs" / made.layers[0].replace(":", "/")
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    assert [finding.path for finding in verify(bench.root)] == [path]


@pytest.mark.parametrize("part", ["layer", "configuration"])
async def test_what_is_not_what_sha512_promises(bench: Bench, part: str) -> None:
    made = sha512()
    reference = bench.registry.add("a", made)
    spoilt = made.layers[1] if part == "layer" else made.id
    bench.registry.blobs[spoilt] = bench.registry.blobs[spoilt][:-1] + b"\x55"
    with pytest.raises(CridError, match=spoilt):
        await bench.service.pull(reference)
    assert bench.files() == []


async def test_a_reference_by_sha512(bench: Bench, tmp_path: Path) -> None:
    """The manifest bears that name and its canonical one; an export and an import keep both."""
    made = image(LAYERS)
    bench.registry.add("a", made)
    repository = f"{bench.registry.address}/a"
    asked, canonical = f"{repository}@{digest_of(made.manifest, 'sha512')}", f"{repository}@{made.digest}"
    found = await bench.service.pull(asked)
    assert (found.id, found.repo_tags, found.repo_digests) == (made.id, (), (asked, canonical))
    assert bench.service.status(asked) == bench.service.status(canonical) == found
    bench.registry.requests.clear()
    assert await bench.service.pull(asked) == found
    assert len(bench.registry.requests) == 1
    export([bench.root], [asked], tmp_path / "a.tar")
    await bench.service.remove(asked)
    assert (await bench.service.import_path(tmp_path / "a.tar"))[0].repo_digests == (asked,)


async def test_a_manifest_that_is_another_by_sha512(bench: Bench) -> None:
    made = image(LAYERS)
    bench.registry.add("a", made)
    wrong = "sha512:" + "0" * 128
    bench.registry.manifests["a", wrong] = (made.manifest, made.media_type)
    with pytest.raises(DataLossError, match=f"{wrong}: the registry sent something with the digest {made.digest}"):
        await bench.service.pull(f"{bench.registry.address}/a@{wrong}")


async def test_an_index_by_sha512_of_manifests_by_sha512(bench: Bench) -> None:
    made = sha512()
    bench.registry.add("a", made)
    both = index((image([]), "s390x", ""), (made, "amd64", ""), algorithm="sha512")
    bench.registry.add("a", both, "index")
    asked = f"{bench.registry.address}/a@{digest_of(both.manifest, 'sha512')}"
    assert (await bench.service.pull(asked)).id == made.id


async def test_an_artifact_with_files_by_sha512(bench: Bench) -> None:
    made = artifact((None, b"content"))
    document = json.loads(made.manifest)
    name = digest_of(b"content", "sha512")
    document["layers"][0]["digest"] = name
    made = MadeImage(made.media_type, json.dumps(document).encode(), made.blobs | {name: b"content"})
    found = await bench.service.pull(bench.registry.add("a", made))
    assert found.id == made.digest
    view = bench.service.view(found, "/x")
    assert (Path(view.source) / name[7:]).read_bytes() == b"content"


def large(made: MadeImage, part: str, values: int) -> MadeImage:
    """Return `made` with a manifest or configuration of so many values more."""
    document = json.loads(made.manifest)
    filling: dict[str, object] = {"filling": [[]] * values}
    if part == "manifest":
        return MadeImage(made.media_type, json.dumps(document | filling).encode(), made.blobs)
    blob = json.dumps(json.loads(made.blobs[made.id]) | filling).encode()
    document["config"] |= {"digest": digest_of(blob), "size": len(blob)}
    return MadeImage(made.media_type, json.dumps(document).encode(), made.blobs | {digest_of(blob): blob})


@pytest.mark.parametrize("part", ["manifest", "configuration"])
async def test_the_loop_goes_on_while_a_large_document_is_read(
    bench: Bench, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading ends only after the loop has had a turn since it began: on the loop it would never end."""
    name = "parse_manifest" if part == "manifest" else "parse_config"
    read, waited = getattr(resolve, name), []
    loop = asyncio.get_running_loop()

    def slow(content: bytes, *others: object) -> object:
        if len(content) > 1 << 17:
            turn = threading.Event()
            loop.call_soon_threadsafe(turn.set)
            waited.append(turn.wait(60))
        return read(content, *others)

    monkeypatch.setattr(resolve, name, slow)
    made = large(image(LAYERS), part, 50_000)
    assert (await bench.service.pull(bench.registry.add("a", made))).id == made.id
    assert waited == [True]


@pytest.mark.parametrize("part", ["manifest", "configuration"])
async def test_a_document_of_a_million_values(bench: Bench, part: str) -> None:
    made = large(image(LAYERS), part, 1_000_000)
    with pytest.raises(InvalidArgumentError, match="holds more than 200000 values"):
        await bench.service.pull(bench.registry.add("a", made))
    assert bench.files() == []


async def test_an_answer_that_never_came_is_no_document(bench: Bench) -> None:
    async def empty(request: web.Request) -> web.Response:
        return web.Response(body=b"", content_type="application/vnd.oci.image.manifest.v1+json")

    bench.registry.script["/v2/a/manifests/latest"] = empty
    with pytest.raises(DataLossError, match="manifest: not JSON"):
        await bench.service.pull(f"{bench.registry.address}/a:latest")
