"""Credentials of the node and signature policies, as a whole pull meets them."""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from crid.config import ImageConfig
from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from crid.image.admission import Admission
from crid.image.manifest import ImageConfig as ImageConfiguration
from crid.image.resolve import configuration
from crid.image.service import ImageService
from crid.image.signatures import Signature
from crid.image.sigstore import signature_tag
from crid.linux.files import write_atomic
from tests.harness.image_bench import Bench
from tests.harness.layers import digest_of, file, image, index, layer
from tests.harness.scripted_registry import ScriptedRegistry
from tests.unit.image.test_policy import KEY, payload, pem, signed

pytestmark = pytest.mark.root

MADE = image([layer(file("f", b"x"))])


@dataclass
class Node:
    """A service whose policy, auth file and namespaces' directories are below `etc`."""

    service: ImageService
    registry: ScriptedRegistry
    etc: Path

    def policy(self, *requirements: dict[str, object], name: str = "policy.json") -> None:
        (self.etc / name).write_text(json.dumps({"default": requirements}))

    def want_signature(self) -> None:
        data = base64.b64encode(pem(KEY)).decode()
        self.policy({"type": "sigstoreSigned", "keyData": data, "signedIdentity": {"type": "matchRepository"}})

    def sign(self, repository: str, digest: str) -> None:
        """Attach a signature to the manifest `digest` of `repository`, as cosign does."""
        one = signed(payload(f"{self.registry.address}/{repository}", digest))
        annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(one.signature).decode()}
        kind = "application/vnd.dev.cosign.simplesigning.v1+json"
        entry = {"mediaType": kind, "digest": digest_of(one.payload), "size": len(one.payload), "annotations": annotations}
        manifest_type = "application/vnd.oci.image.manifest.v1+json"
        document = {"schemaVersion": 2, "mediaType": manifest_type, "config": {}, "layers": [entry]}
        self.registry.manifests[repository, signature_tag(digest)] = (json.dumps(document).encode(), manifest_type)
        self.registry.blobs[digest_of(one.payload)] = one.payload


@pytest.fixture
async def node(bench: Bench, tmp_path: Path) -> AsyncIterator[Node]:
    etc = tmp_path / "etc"
    etc.mkdir()
    settings = ImageConfig(
        signature_policy=str(etc / "policy.json"),
        signature_policy_dir=str(etc),
        global_auth_file=str(etc / "auth.json"),
        namespaced_auth_dir=str(etc),
    )
    service = ImageService(tmp_path / "node", bench.conf, bench.supervisor, settings=settings)
    service.load()
    made = Node(service, bench.registry, etc)
    made.policy({"type": "insecureAcceptAnything"})
    yield made
    await bench.supervisor.close(5)
    await service.close()


async def test_a_rejected_image_is_neither_pulled_nor_run(node: Node) -> None:
    reference = node.registry.add("a", MADE)
    pulled = await node.service.pull(reference)
    node.service.check_policy(pulled, reference)
    node.policy({"type": "reject"})
    with pytest.raises(PermissionDeniedError, match="rejects it"):
        node.service.check_policy(pulled, reference)
    with pytest.raises(PermissionDeniedError, match="rejects it"):
        await node.service.pull(reference)
    assert not [path for path in node.registry.paths()[-1:] if "blobs" in path]
    (node.etc / "policy.json").write_text("[")
    with pytest.raises(InvalidArgumentError, match=r"policy\.json"):
        node.service.check_policy(pulled, reference)


async def test_a_namespaces_policy_takes_the_others_place(node: Node) -> None:
    reference = node.registry.add("a", MADE)
    node.policy({"type": "reject"}, name="team.json")
    with pytest.raises(PermissionDeniedError):
        await node.service.pull(reference, namespace="team")
    pulled = await node.service.pull(reference, namespace="other")
    node.service.check_policy(pulled, reference, "other")
    with pytest.raises(PermissionDeniedError):
        node.service.check_policy(pulled, reference, "team")


async def test_a_signed_image_is_pulled_and_runs_without_the_registry(node: Node) -> None:
    node.want_signature()
    reference = node.registry.add("a", MADE)
    with pytest.raises(PermissionDeniedError, match="there is none"):
        await node.service.pull(reference)
    node.sign("a", MADE.digest)
    pulled = await node.service.pull(reference)
    node.registry.manifests.clear()
    node.service.check_policy(pulled, reference)
    node.service.check_policy(pulled, pulled.id)
    renamed = replace(pulled, repo_tags=("q.io/other:1",), repo_digests=())
    with pytest.raises(PermissionDeniedError, match="for the name"):
        node.service.check_policy(renamed)
    await node.service.remove(reference)
    assert not list((node.etc.parent / "node/images/signatures").iterdir())


async def test_a_removal_leaves_the_signatures_to_a_pull_of_the_same_image(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.want_signature()
    one, other = node.registry.add("a", MADE), node.registry.add("b", MADE)
    node.sign("a", MADE.digest)
    node.sign("b", MADE.digest)
    await node.service.pull(one)
    admitted, go_on = asyncio.Event(), asyncio.Event()

    async def gated(*arguments: Any) -> ImageConfiguration:
        admitted.set()
        await go_on.wait()
        return await configuration(*arguments)

    monkeypatch.setattr("crid.image.pull.configuration", gated)
    pulling = asyncio.get_running_loop().create_task(node.service.pull(other))
    await admitted.wait()
    await node.service.remove(one)
    go_on.set()
    pulled = await pulling
    assert pulled.repo_tags == (other,)
    node.service.check_policy(pulled, other)


async def test_the_signature_may_be_the_indexs(node: Node) -> None:
    node.want_signature()
    both = index((MADE, "amd64", ""), (MADE, "arm64", "v8"))
    node.registry.add("a", MADE)
    reference = node.registry.add("a", both)
    node.sign("a", both.digest)
    node.service.check_policy(await node.service.pull(reference), reference)


async def test_a_signature_for_another_image_does_not_count(node: Node) -> None:
    node.want_signature()
    other = image([layer(file("other"))])
    reference = node.registry.add("a", MADE)
    node.sign("a", other.digest)
    name, kind = node.registry.manifests["a", signature_tag(other.digest)]
    node.registry.manifests["a", signature_tag(MADE.digest)] = (name, kind)
    with pytest.raises(PermissionDeniedError, match="is for 'sha256"):
        await node.service.pull(reference)
    with pytest.raises(NotFoundError):
        node.service.resolve(reference)


def guarded(registry: ScriptedRegistry, *users: str) -> None:
    """Let only `users` in, all of whom have the password pw."""
    accepted = {"Basic " + base64.b64encode(f"{user}:pw".encode()).decode() for user in users}

    async def gate(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") in accepted:
            return web.Response()
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    registry.gate = gate


def auths(key: str, user: str) -> str:
    return json.dumps({"auths": {key: {"auth": base64.b64encode(f"{user}:pw".encode()).decode()}}})


async def test_the_nodes_credentials_are_used_where_the_request_has_none(node: Node) -> None:
    reference = node.registry.add("a", MADE)
    guarded(node.registry, "node", "kubelet")
    with pytest.raises(PermissionDeniedError):
        await node.service.pull(reference)
    (node.etc / "auth.json").write_text(auths(node.registry.address, "node"))
    await node.service.pull(reference)
    guarded(node.registry, "kubelet")
    with pytest.raises(PermissionDeniedError):
        await node.service.pull(reference)
    await node.service.pull(reference, cri.AuthConfig(username="kubelet", password="pw"))


async def test_a_namespaces_credentials_are_for_its_pulls_only(node: Node) -> None:
    reference = node.registry.add("a", MADE)
    guarded(node.registry, "team")
    name = hashlib.sha256(reference.rpartition(":")[0].encode()).hexdigest()
    (node.etc / f"team-{name}.json").write_text(auths(f"{node.registry.address}/a", "team"))
    with pytest.raises(PermissionDeniedError):
        await node.service.pull(reference, namespace="other")
    await node.service.pull(reference, namespace="team")
    with pytest.raises(PermissionDeniedError):
        await node.service.pull(reference, namespace="team")


def test_signatures_of_two_pulls_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image under two names, each with a signature of its own, comes from both at once."""
    admission = Admission([tmp_path])
    (tmp_path / "images").mkdir()
    one, other = Signature(b"one", b"1"), Signature(b"other", b"2")
    second = threading.Thread(target=admission._keep, args=(MADE.id, (other,)))

    def slow(*arguments: Any, **options: Any) -> None:
        if not second.ident:
            second.start()
            second.join(0.5)  # it waits for the first, or has overtaken it by now
        write_atomic(*arguments, **options)

    monkeypatch.setattr("crid.image.admission.write_atomic", slow)
    admission._keep(MADE.id, (one,))
    second.join()
    assert set(admission._load(MADE.id)) == {one, other}
