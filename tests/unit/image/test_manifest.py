import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.errors import CridError, DataLossError, InvalidArgumentError, NotFoundError
from crid.image import manifest
from crid.image.manifest import ImageConfig, Index, Manifest, Platform, parse_config, parse_manifest
from crid.model.image import Descriptor, ImageProcess
from tests.harness.layers import digest_of, image, index

DIGEST = "sha256:" + "a" * 64
FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
AMD64 = Platform("amd64")


def changed(document: bytes, **changes: Any) -> bytes:
    value = {**json.loads(document), **changes}
    return json.dumps({key: item for key, item in value.items() if item is not None}).encode()


def descriptor(media_type: str, digest: str = DIGEST, size: Any = 1, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def offer_of(text: str) -> tuple[str, str]:
    architecture, _, variant = text.partition("/")
    return architecture, variant


@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_manifests(form: str, compression: str) -> None:
    made = image([b"one", b"two"], form=form, compression=compression)
    for content in (made.manifest, changed(made.manifest, mediaType=None)):
        parsed = parse_manifest(content, made.media_type)
        assert isinstance(parsed, Manifest)
        assert (parsed.media_type, parsed.config.digest) == (made.media_type, made.id)
        assert [layer.digest for layer in parsed.layers] == made.layers
    assert isinstance(parse_manifest(image([b"x"]).manifest), Manifest)


@pytest.mark.parametrize(
    ("offers", "wanted", "chosen"),
    [
        (["amd64", "arm64/v8"], "amd64", 0),
        (["arm64", "amd64"], "amd64", 1),
        (["arm64"], "arm64/v8", 0),
        (["arm/v6", "arm/v7"], "arm/v7", 1),
        (["arm/v5", "arm/v6"], "arm/v7", 1),
        (["amd64/v3", "amd64"], "amd64", 1),
        (["amd64", "amd64"], "amd64", 0),
        (["amd64", "amd64/v4", "amd64/v2", "amd64/v3"], "amd64/v3", 3),
        (["amd64", "amd64/v4", "amd64/v2"], "amd64/v3", 2),
        (["amd64/v4", "amd64"], "amd64/v3", 1),
        (["amd64/v1", "arm64"], "amd64/v2", 0),
        (["amd64/v1"], "amd64", 0),
        (["amd64/strange", "amd64"], "amd64/v2", 1),
        (["unknown", "amd64"], "amd64", 1),
    ],
)
def test_choosing(offers: list[str], wanted: str, chosen: int) -> None:
    made = [image([bytes([number])]) for number in range(len(offers))]
    entries = [(one, *offer_of(offer)) for one, offer in zip(made, offers, strict=True)]
    parsed = parse_manifest(index(*entries).manifest)
    assert isinstance(parsed, Index)
    assert parsed.choose(Platform(*wanted.split("/"))).digest == made[chosen].digest


@pytest.mark.parametrize(
    ("offers", "wanted"),
    [
        (["arm64"], "amd64"),
        (["arm/v7"], "arm/v6"),
        (["arm/v8"], "arm/v7"),
        ([], "amd64"),
        (["amd64/v3"], "amd64"),
        (["amd64/v4", "amd64/x"], "amd64/v3"),
        (["amd64/v" + "9" * 5000], "amd64/v4"),
    ],
)
def test_nothing_to_choose(offers: list[str], wanted: str) -> None:
    made = image([b"x"])
    parsed = parse_manifest(index(*[(made, *offer_of(offer)) for offer in offers]).manifest)
    assert isinstance(parsed, Index)
    with pytest.raises(NotFoundError, match=f"no manifest for linux/{wanted}"):
        parsed.choose(Platform(*wanted.split("/")))


BASE = image([b"x"]).manifest


@pytest.mark.parametrize(
    ("content", "media_type", "kind", "complaint"),
    [
        (changed(BASE, schemaVersion=1), "", InvalidArgumentError, "schema 1"),
        (BASE, "application/vnd.docker.distribution.manifest.v1+prettyjws", InvalidArgumentError, "schema 1"),
        (changed(BASE, schemaVersion=3), "", DataLossError, "schemaVersion is 3"),
        (changed(BASE, schemaVersion=None), "", DataLossError, "schemaVersion"),
        (BASE, manifest.OCI_INDEX, DataLossError, "served as"),
        (changed(BASE, mediaType="application/x"), "", InvalidArgumentError, "not an image"),
        (changed(BASE, manifests=[]), "", DataLossError, "at once"),
        (changed(BASE, config=None), "", DataLossError, "config"),
        (changed(BASE, config=descriptor(manifest.OCI_CONFIG, size=1 << 30)), "", InvalidArgumentError, "at most"),
        (changed(BASE, config=descriptor(manifest.OCI_CONFIG, "sha256:x")), "", DataLossError, "digest"),
        (changed(BASE, config=descriptor(manifest.OCI_CONFIG, size=-1)), "", DataLossError, "size -1"),
        (changed(BASE, config=descriptor(manifest.OCI_CONFIG, size=True)), "", DataLossError, "size True"),
        (changed(BASE, layers=[descriptor(manifest.OCI_LAYER + "+gzip+encrypted")]), "", InvalidArgumentError, "encrypted"),
        (changed(BASE, layers=[descriptor(FOREIGN)]), "", InvalidArgumentError, "foreign"),
        (changed(BASE, layers=[descriptor("application/x")]), "", InvalidArgumentError, "no file system"),
        (changed(BASE, layers=[descriptor(manifest.OCI_LAYER)] * 501), "", InvalidArgumentError, "501 layers"),
        (changed(BASE, layers={}), "", DataLossError, "layers: must be of type list"),
        (b"[]", "", DataLossError, "not a JSON object"),
        (b"{", "", DataLossError, "not JSON"),
        (b"\xff", "", DataLossError, "not JSON"),
        (b"[" * 100_000, "", DataLossError, "not JSON"),
    ],
)  # fmt: skip
def test_refused_manifests(content: bytes, media_type: str, kind: type[CridError], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        parse_manifest(content, media_type)


KEYS = ["config", "layers", "digest", "size", "mediaType", "manifests", "platform", "rootfs", "diff_ids"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=20,
)  # fmt: skip


WITHOUT_LAYERS = Manifest("", Descriptor("", DIGEST, 0), ())


@given(JSON)
def test_any_json_is_refused_or_read(value: object) -> None:
    document = {"schemaVersion": 2, **value} if isinstance(value, dict) else value
    content = json.dumps(document).encode()
    with contextlib.suppress(CridError):
        parse_manifest(content)
    with contextlib.suppress(CridError):
        parse_config(content, WITHOUT_LAYERS)


def config_of(**config: Any) -> ImageConfig:
    made = image([b"one", b"two"], config=config)
    parsed = parse_manifest(made.manifest)
    assert isinstance(parsed, Manifest)
    return parse_config(made.blobs[made.id], parsed)


def test_configurations() -> None:
    config = config_of(
        User="1:2", Env=["A=b"], Entrypoint=["e"], Cmd=None, WorkingDir="/w",
        StopSignal="INT", Volumes={"/b": {}, "/a": {}}, Labels={"k": "v"}
    )  # fmt: skip
    assert config.process == ImageProcess("1:2", ("A=b",), ("e",), (), "/w", "INT", ("/a", "/b"), {"k": "v"})
    one, two = digest_of(b"one"), digest_of(b"two")
    assert config.diff_ids == (one, two)
    assert config.chain_ids == (one, digest_of(f"{one} {two}".encode()))


def test_refused_configurations() -> None:
    with pytest.raises(DataLossError, match="Env"):
        config_of(Env=[1])
    with pytest.raises(DataLossError, match="User"):
        config_of(User=7)
    made = image([b"one"])
    parsed = parse_manifest(made.manifest)
    assert isinstance(parsed, Manifest)
    with pytest.raises(DataLossError, match="2 diff_ids for 1 layers"):
        parse_config(image([b"one", b"two"]).blobs[image([b"one", b"two"]).id], parsed)
    with pytest.raises(InvalidArgumentError, match="windows"):
        parse_config(changed(made.blobs[made.id], os="windows"), parsed)
