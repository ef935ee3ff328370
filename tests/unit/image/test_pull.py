"""Whole pulls through ImageService against a scripted registry: what they promise when all does not go well."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from crid.cri import api_pb2 as cri
from crid.errors import CridError, DataLossError, InvalidArgumentError, NotFoundError, UnavailableError
from crid.image.manifest import Platform
from tests.harness.image_bench import Bench
from tests.harness.layers import MadeImage, digest_of, directory, file, hardlink, image, index, layer, symlink

pytestmark = pytest.mark.root

LAYERS = [
    layer(directory("d", mode=0o1777), file("d/a", b"1"), file("b", b"1")),
    layer(file("d/c", b"2"), file(".wh.b")),
    layer(symlink("l", "d/c"), hardlink("h", "l")),
]


def honest(form: str = "oci", compression: str = "gzip") -> MadeImage:
    return image(LAYERS, form=form, compression=compression)


@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
async def test_an_image_comes_in_whole(bench: Bench, form: str, compression: str) -> None:
    made = honest(form, compression)
    reference = bench.registry.add("a/b", made, "v1")
    found = await bench.service.pull(reference)
    assert (found.id, found.repo_tags, found.repo_digests) == (
        made.id,
        (reference,),
        (f"{bench.registry.address}/a/b@{made.digest}",),
    )
    assert found.size == len(made.manifest) + sum(map(len, made.blobs.values()))
    assert found.process.cmd == ("sh",)
    snapshot = bench.service.prepare_rootfs("c1", found)
    lower = snapshot.mount.options[0].removeprefix("lowerdir=").split(":")
    assert [sorted(path.name for path in Path(one).iterdir()) for one in lower] == [["h", "l"], ["b", "d"], ["b", "d"]]
    assert (Path(lower[1]) / "d").stat().st_mode & 0o7777 == 0o1777  # described only in the layer below


async def test_pulling_again_fetches_only_the_manifest(bench: Bench) -> None:
    reference = bench.registry.add("a", honest())
    first = await bench.service.pull(reference)
    bench.registry.requests.clear()
    assert await bench.service.pull(reference) == first
    assert bench.registry.paths() == ["/v2/a/manifests/latest"]


async def test_by_digest_there_is_no_tag(bench: Bench) -> None:
    made = honest()
    bench.registry.add("a", made)
    reference = f"{bench.registry.address}/a@{made.digest}"
    found = await bench.service.pull(reference)
    assert (found.repo_tags, found.repo_digests) == ((), (reference,))
    tagged = await bench.service.pull(f"{bench.registry.address}/a:latest")
    assert (tagged.repo_tags, tagged.repo_digests) == ((f"{bench.registry.address}/a:latest",), (reference,))
    for name in (tagged.id, tagged.id[7:], tagged.id[7:20], reference, *tagged.repo_tags):
        assert bench.service.status(name) == tagged


async def test_an_index_is_chosen_from_and_gives_the_repo_digest(bench: Bench) -> None:
    wanted, other = honest(), image([layer(file("x"))])
    both = index((other, "s390x", ""), (wanted, "amd64", ""), (wanted, "arm64", "v8"))
    bench.registry.add("a", wanted)
    bench.registry.add("a", other)
    reference = bench.registry.add("a", both)
    found = await bench.service.pull(reference)
    assert (found.id, found.repo_digests) == (wanted.id, (f"{bench.registry.address}/a@{both.digest}",))


async def test_a_tag_that_moves(bench: Bench) -> None:
    old, new = honest(), image([layer(file("new"))])
    reference = bench.registry.add("a", old)
    first = await bench.service.pull(reference)
    bench.registry.add("a", new)
    second = await bench.service.pull(reference)
    assert bench.service.status(reference) == second
    left = bench.service.status(first.id)
    assert left is not None
    assert (left.repo_tags, left.repo_digests) == ((), first.repo_digests)


async def test_one_flight_is_shared_and_outlives_its_first_caller(bench: Bench) -> None:
    made = honest()
    reference = bench.registry.add("a", made)
    started, gate = bench.hold(f"/v2/a/blobs/{made.layers[0]}")
    callers = [asyncio.get_running_loop().create_task(bench.service.pull(reference)) for _ in range(5)]
    await started.wait()
    callers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    gate.set()
    results = await asyncio.gather(*callers[1:])
    assert {result.id for result in results} == {made.id}
    paths = bench.registry.paths()
    assert len(paths) == len(set(paths)) == 5


async def test_two_images_share_layers(bench: Bench) -> None:
    """The same layer, asked for by two pulls at once, is fetched and unpacked once."""
    base = layer(file("base", b"x" * 100_000))
    names = [bench.registry.add(name, image([base, layer(file(name))])) for name in ("a", "b")]
    first, second = await asyncio.gather(*map(bench.service.pull, names))
    assert first.chain_ids[0] == second.chain_ids[0]
    asked = [path for path in bench.registry.paths() if image([base]).layers[0] in path]
    assert len(asked) == 1


async def test_a_layer_that_occurs_twice(bench: Bench) -> None:
    twice = image([LAYERS[0], LAYERS[0]])
    found = await bench.service.pull(bench.registry.add("a", twice))
    assert len(set(found.chain_ids)) == 2


async def hostile_digest(bench: Bench, made: MadeImage) -> None:
    bench.registry.blobs[made.layers[1]] = bench.registry.blobs[made.layers[1]][:-1] + b"\xff"


async def hostile_config(bench: Bench, made: MadeImage) -> None:
    bench.registry.blobs[made.id] = bench.registry.blobs[made.id].replace(b"sh", b"xx")


async def hostile_length(bench: Bench, made: MadeImage) -> None:
    bench.registry.blobs[made.layers[1]] += b"more"


async def missing_blob(bench: Bench, made: MadeImage) -> None:
    del bench.registry.blobs[made.layers[1]]


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (hostile_digest, DataLossError),
        (hostile_config, DataLossError),
        (hostile_length, DataLossError),
        (missing_blob, NotFoundError),
    ],
)
async def test_what_was_not_promised_leaves_nothing(
    bench: Bench, spoil: Callable[[Bench, MadeImage], Awaitable[None]], kind: type[CridError]
) -> None:
    made = honest()
    reference = bench.registry.add("a", made)
    await spoil(bench, made)
    with pytest.raises(kind, match="blob sha256:"):
        await bench.service.pull(reference)
    assert bench.files() == []
    assert bench.service.list_images() == []
    bench.registry.blobs |= made.blobs
    assert (await bench.service.pull(reference)).id == made.id


@pytest.mark.parametrize(
    ("made", "kind", "complaint"),
    [
        (image([LAYERS[0], layer(file("../evil"))]), InvalidArgumentError, "layer member '../evil'"),
        (image(LAYERS, diff_ids=["sha256:" + "0" * 64] * 3), DataLossError, "content has the digest"),
        (image([b"no archive at all" * 100]), DataLossError, "tar"),
    ],
)
async def test_layers_that_cannot_be_taken(bench: Bench, made: MadeImage, kind: type[CridError], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        await bench.service.pull(bench.registry.add("a", made))
    assert bench.files() == []


async def test_an_index_that_leads_to_itself(bench: Bench) -> None:
    inner = honest()
    for _ in range(5):
        inner = index((inner, "amd64", ""), (inner, "arm64", ""))
        reference = bench.registry.add("a", inner)
    with pytest.raises(DataLossError, match="indexes inside each other"):
        await bench.service.pull(reference)


async def test_a_manifest_that_is_another(bench: Bench) -> None:
    made = honest()
    bench.registry.manifests["a", made.digest] = (image([]).manifest, made.media_type)
    with pytest.raises(DataLossError, match=digest_of(image([]).manifest)):
        await bench.service.pull(f"{bench.registry.address}/a@{made.digest}")


async def test_what_is_not_there(bench: Bench) -> None:
    reference = f"{bench.registry.address}/gone:v1"
    with pytest.raises(NotFoundError, match=f"image {reference}"):
        await bench.service.pull(reference)


async def test_an_interrupted_pull_goes_on_from_where_it_was(bench: Bench) -> None:
    made = honest()
    reference = bench.registry.add("a", made)

    async def broken(request: web.Request) -> web.Response:
        return web.Response(status=503)

    path = f"/v2/a/blobs/{made.layers[2]}"
    bench.registry.script[path] = broken
    with pytest.raises(UnavailableError, match=made.layers[2]):
        await bench.service.pull(reference)
    assert bench.service.list_images() == []
    del bench.registry.script[path]
    bench.registry.requests.clear()
    await bench.service.pull(reference)
    assert f"/v2/a/blobs/{made.id}" not in bench.registry.paths()


async def test_a_mirror_serves_under_the_name_that_was_asked_for(bench: Bench) -> None:
    made = honest()
    bench.registry.add("mirrored/a", made, "v1")
    bench.conf.write_text(
        '[[registry]]\nlocation = "q.invalid"\n'
        f'[[registry.mirror]]\nlocation = "{bench.registry.address}/nothing"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{bench.registry.address}/mirrored"\ninsecure = true\n'
    )
    found = await bench.service.pull("q.invalid/a:v1", cri.AuthConfig(username="joe", password="pw"))
    assert found.repo_tags == ("q.invalid/a:v1",)
    assert {authorization for _, authorization in bench.registry.requests} == {""}


async def test_a_cancelled_daemon_stops_its_pulls(bench: Bench) -> None:
    made = honest()
    reference = bench.registry.add("a", made)
    started = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        started.set()
        await asyncio.sleep(60)
        return web.Response()

    bench.registry.script[f"/v2/a/blobs/{made.layers[1]}"] = never
    caller = asyncio.get_running_loop().create_task(bench.service.pull(reference))
    await started.wait()
    await bench.supervisor.close(0.01)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not any("ingest" in name or "staging" in name for name in bench.files())


@pytest.mark.parametrize(("level", "expected"), [(1, "plain"), (2, "v2"), (3, "v2"), (4, "v4")])
async def test_the_best_that_this_processor_can_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, level: int, expected: str
) -> None:
    """Among images for levels of amd64; what is for a higher one would end in illegal instructions."""
    made = {name: image([layer(file(name))]) for name in ("plain", "v2", "v4")}
    for one in made.values():
        bench.registry.add("a", one)
    reference = bench.registry.add(
        "a", index((made["v4"], "amd64", "v4"), (made["plain"], "amd64", ""), (made["v2"], "amd64", "v2"))
    )
    monkeypatch.setattr(bench.service._puller, "_platform", Platform("amd64", f"v{level}" if level > 1 else ""))
    found = await bench.service.pull(reference)
    assert found.id == made[expected].id
    assert (Path(bench.service.view(found, "/t").source) / expected).is_file()


async def test_one_image_of_many_names_has_one_id_everywhere(bench: Bench) -> None:
    """Tags, digests, a tag with a digest, and another registry's name, whose registry serves the same bytes."""
    made = honest()
    names = [bench.registry.add("a", made, "1"), bench.registry.add("a", made, "2"), bench.registry.add("b", made, "1")]
    host = bench.registry.address
    bench.conf.write_text(
        f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
        f'[[registry]]\nprefix = "other.io/x"\nlocation = "{host}/a"\ninsecure = true\n'
        f'[aliases]\nshort = "{host}/a"\n'
    )
    names += ["other.io/x:1", f"{host}/a@{made.digest}", f"{host}/a:1@{made.digest}", "short:2"]
    assert {(await bench.service.pull(name)).id for name in names} == {made.id}
    [found] = bench.service.list_images()
    assert set(found.repo_tags) == {f"{host}/a:1", f"{host}/a:2", f"{host}/b:1", "other.io/x:1"}
    assert set(found.repo_digests) == {f"{name}@{made.digest}" for name in (f"{host}/a", f"{host}/b", "other.io/x")}
    assert {bench.service.resolve(name).id for name in (*names, made.id, made.id[7:19], "short:1")} == {made.id}


@pytest.mark.parametrize("short_name_mode", ["enforcing", "permissive", "disabled"])
async def test_a_short_name_that_several_registries_could_mean(bench: Bench, short_name_mode: str) -> None:
    """Refused in `enforcing`, since there is nobody to ask; tried in order in the others."""
    bench.registry.add("team/only", honest())
    host = bench.registry.address
    bench.conf.write_text(
        f'unqualified-search-registries = ["127.0.0.1:9", "{host}"]\nshort-name-mode = "{short_name_mode}"\n'
        f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
    )
    if short_name_mode == "enforcing":
        with pytest.raises(InvalidArgumentError, match="short-name-mode is enforcing"):
            await bench.service.pull("team/only")
    else:
        assert (await bench.service.pull("team/only")).repo_tags == (f"{host}/team/only:latest",)


@pytest.mark.parametrize("unknown", ["sha384:" + "ab" * 48, "sha512:" + "ab" * 32, "SHA512:" + "ab" * 64])
async def test_another_algorithm_of_digests_is_refused_by_name(bench: Bench, unknown: str) -> None:
    """In a reference, and in what a manifest holds: nothing of it is fetched."""
    with pytest.raises(InvalidArgumentError, match="must be sha256"):
        await bench.service.pull(f"{bench.registry.address}/a@{unknown}")
    made = honest()
    document = json.loads(made.manifest)
    document["layers"][0]["digest"] = unknown
    reference = bench.registry.add("a", MadeImage(made.media_type, json.dumps(document).encode(), made.blobs))
    with pytest.raises(DataLossError, match="must be sha256"):
        await bench.service.pull(reference)
    assert not any("blobs" in path for path in bench.registry.paths())
