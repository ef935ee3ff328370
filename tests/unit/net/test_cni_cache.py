"""crid.net.cni_cache: what is written is read again, in libcni's form."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from crid.errors import UnavailableError
from crid.net import cni_config
from crid.net.cni_cache import AttachmentCache, CachedAttachment
from crid.net.cni_exec import Attachment

NETWORK = cni_config.parse(
    b'{"cniVersion": "1.0.0", "name": "my-net", "loadOnlyInlinedPlugins": true, "plugins": [{"type": "a", "own": 1}]}', "x"
)
POD, OTHER = "ab" * 32, "cd" * 32
CACHED = CachedAttachment(NETWORK, Attachment(POD, "/ns", "eth0", (("K8S_POD_NAME", "web"),)), {"dns": {}})


@pytest.fixture
def cache(tmp_path: Path) -> AttachmentCache:
    return AttachmentCache(tmp_path / "results")


@pytest.mark.parametrize("result", [None, {"cniVersion": "1.0.0", "ips": []}])
def test_what_is_saved_is_found_again(cache: AttachmentCache, result: dict[str, object] | None) -> None:
    saved = replace(CACHED, result=result)
    cache.save(saved)
    (found,) = cache.of(POD)
    assert replace(found, network=NETWORK) == saved
    assert replace(found.network, source="x") == NETWORK
    assert cache.all() == [found]
    assert cache.holders() == {POD}
    assert cache.of(OTHER) == []
    assert not cache.holds(OTHER)


def test_the_file_is_one_that_libcni_reads(cache: AttachmentCache, tmp_path: Path) -> None:
    cache.save(CACHED)
    document = json.loads((tmp_path / "results" / f"my-net-{POD}-eth0").read_text())
    assert (document["kind"], document["containerId"], document["ifName"]) == ("cniCacheV1", POD, "eth0")
    assert json.loads(base64.b64decode(document["config"]))["plugins"] == [{"type": "a", "own": 1}]


def test_forget_removes_what_cannot_be_read_too(cache: AttachmentCache, tmp_path: Path) -> None:
    cache.save(CACHED)
    (tmp_path / "results" / f"other-{POD}-eth0").write_text("{")
    (tmp_path / "results" / f"other-{OTHER}-eth0").write_text("{")
    assert cache.holders() == {POD, OTHER}
    assert len(cache.of(POD)) == 1
    for _ in range(2):
        cache.forget(POD)
        assert not cache.holds(POD)
    assert cache.holds(OTHER)


def test_what_a_crash_left_half_written_is_removed(cache: AttachmentCache, tmp_path: Path) -> None:
    cache.save(CACHED)
    left = tmp_path / "results" / f".my-net-{POD}-eth0.x1y2"
    left.touch()
    assert len(cache.all()) == 1
    assert not left.exists()


def test_a_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=str(tmp_path / "file")):
        AttachmentCache(tmp_path / "file").save(CACHED)
