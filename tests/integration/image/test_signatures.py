"""Images that skopeo and gpg have signed, as the policy lets crid pull them or not."""

import base64
import http.server
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from aiohttp import web

from crid.config import ImageConfig
from crid.cri import api_pb2 as cri
from crid.errors import PermissionDeniedError
from crid.image.service import ImageService
from crid.tasks import Supervisor
from scripts import small_image
from tests.harness.client import refused
from tests.harness.daemon import Daemon, Settings
from tests.harness.layers import file, image, layer, write_layout
from tests.harness.node import Node
from tests.harness.registry import LocalRegistry
from tests.harness.scripted_registry import ScriptedRegistry
from tests.harness.signing import Signer
from tests.harness.tools import require_tool

pytestmark = pytest.mark.root

MADE = image([layer(file("f", b"signed"))])
OTHER = image([layer(file("f", b"other"))])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    with LocalRegistry(tmp_path_factory.mktemp("registry") / "data") as local:
        yield local


@pytest.fixture
def signer(tmp_path_factory: pytest.TempPathFactory, registry: LocalRegistry) -> Iterator[Signer]:
    made = Signer(tmp_path_factory.mktemp("sign"), registry)  # a short path: gpg's agent has a socket there
    yield made
    made.close()


@dataclass
class Verifier:
    """An image service whose policy and registries.d are below `etc`."""

    service: ImageService
    etc: Path

    def want(self, kind: str, **more: object) -> None:
        (self.etc / "policy.json").write_text(json.dumps({"default": [{"type": kind, **more}]}))

    def want_sigstore(self, key: bytes) -> None:
        self.want("sigstoreSigned", keyData=base64.b64encode(key).decode())

    def want_gpg(self, *keys: bytes, **more: object) -> None:
        keyring = base64.b64encode(b"\n".join(keys)).decode()
        self.want("signedBy", keyType="GPGKeys", keyData=keyring, **more)


@pytest.fixture
async def node(tmp_path: Path, registry: LocalRegistry, signer: Signer) -> AsyncIterator[Verifier]:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "registries.conf").write_text(registry.registries_conf())
    supervisor = Supervisor("test")
    settings = ImageConfig(signature_policy=str(etc / "policy.json"), registries_d=str(signer.registries_d))
    service = ImageService(tmp_path / "root", etc / "registries.conf", supervisor, settings=settings)
    service.load()
    yield Verifier(service, etc)
    await supervisor.close(5)
    await service.close()


async def test_signed_by_a_gpg_key(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    """It is pulled and may run, without the registry and its signatures too; nobody else's image is."""
    key, stranger = signer.gpg_key("joe@example.com"), signer.gpg_key("eve@example.com")
    reference = signer.sign_by_gpg(write_layout(tmp_path / "layout", MADE), "gpg/a:1", "joe@example.com")
    node.want_gpg(key)
    pulled = await node.service.pull(reference)
    (signer.directory / "lookaside").rename(signer.directory / "elsewhere")
    node.service.check_policy(pulled, reference)
    node.want_gpg(stranger)
    with pytest.raises(PermissionDeniedError, match="no trusted key"):
        node.service.check_policy(pulled, reference)
    node.want_gpg(stranger, key)
    node.service.check_policy(pulled, reference)
    unsigned = signer.registry.push(write_layout(tmp_path / "other", OTHER), "gpg/b:1")
    with pytest.raises(PermissionDeniedError, match="there is none"):
        await node.service.pull(unsigned)


async def test_each_identity(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    """skopeo signs the name that it pushes to."""
    key = signer.gpg_key("joe@example.com")
    layout = write_layout(tmp_path / "layout", MADE)
    reference = signer.sign_by_gpg(layout, "gpg/id:1", "joe@example.com")
    moved = signer.registry.push(layout, "gpg/id:2")
    repository = reference.rpartition(":")[0]
    at_digest = f"{repository}@{MADE.digest}"
    for name, identity, fits in [
        (reference, {"type": "matchExact"}, True),
        (moved, {"type": "matchExact"}, False),
        (at_digest, {"type": "matchExact"}, False),
        (at_digest, {"type": "matchRepoDigestOrExact"}, True),
        (moved, {"type": "matchRepository"}, True),
        (moved, {"type": "exactReference", "dockerReference": reference}, True),
        (moved, {"type": "exactReference", "dockerReference": moved}, False),
        (moved, {"type": "exactRepository", "dockerRepository": repository}, True),
        (moved, {"type": "exactRepository", "dockerRepository": "q.io/x"}, False),
    ]:
        node.want_gpg(key, signedIdentity=identity)
        if fits:
            await node.service.pull(name)
        else:
            with pytest.raises(PermissionDeniedError, match="for the name"):
                await node.service.pull(name)
    prefix = signer.registry.address
    node.want_gpg(key, signedIdentity={"type": "remapIdentity", "prefix": f"{prefix}/mirror", "signedPrefix": f"{prefix}/gpg"})
    mirrored = signer.registry.push(layout, "mirror/id:1")
    store = signer.directory / "lookaside"
    (store / "mirror").symlink_to("gpg")
    await node.service.pull(mirrored)


async def test_keys_from_files_and_a_web_server(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    key = signer.gpg_key("joe@example.com")
    reference = signer.sign_by_gpg(write_layout(tmp_path / "layout", MADE), "gpg/web:1", "joe@example.com")
    (tmp_path / "key.asc").write_bytes(key)
    (tmp_path / "none.gpg").write_bytes(signer.gpg_key("other@example.com"))
    node.want("signedBy", keyType="GPGKeys", keyPaths=[str(tmp_path / "none.gpg"), str(tmp_path / "key.asc")])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
            pass

    served = partial(Quiet, directory=str(signer.directory / "lookaside"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        (signer.registries_d / "default.yaml").write_text(f"docker:\n  {signer.registry.address}/gpg:\n    sigstore: {url}\n")
        await node.service.pull(reference)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_signatures_that_the_registry_keeps(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    """Where a registry announces that it keeps signatures, those count, and the lookaside store does not."""
    key = signer.gpg_key("joe@example.com")
    signed = signer.sign_by_gpg(write_layout(tmp_path / "layout", MADE), "gpg/kept:1", "joe@example.com")
    [stored] = (signer.directory / "lookaside").glob("gpg/kept@*/signature-1")
    node.want_gpg(key, signedIdentity={"type": "exactReference", "dockerReference": signed})
    entry = {"schemaVersion": 2, "type": "atomic", "name": "x", "content": base64.b64encode(stored.read_bytes()).decode()}
    announced, kept = "1", [entry]

    async def version(request: web.Request) -> web.Response:
        """Answer as one that wants to know who asks, which is no reason not to say what it can."""
        return web.Response(status=401, headers={"X-Registry-Supports-Signatures": announced})

    async def signatures(request: web.Request) -> web.Response:
        return web.json_response({"signatures": kept}) if kept else web.Response(status=404)

    async with ScriptedRegistry() as scripted:
        reference = scripted.add("gpg/kept", MADE, "1")
        conf = node.etc / "registries.conf"
        conf.write_text(f'{conf.read_text()}\n[[registry]]\nlocation = "{scripted.address}"\ninsecure = true\n')
        scripted.script["/v2/"] = version
        scripted.script[f"/extensions/v2/gpg/kept/signatures/{MADE.digest}"] = signatures
        pulled = await node.service.pull(reference)
        node.service.check_policy(pulled, reference)
        kept = []
        with pytest.raises(PermissionDeniedError, match="there is none"):
            await node.service.pull(reference)
        announced = "0"
        await node.service.pull(reference)
        node.want_gpg(signer.gpg_key("eve@example.com"))
        announced, kept = "1", [entry]
        with pytest.raises(PermissionDeniedError, match="no trusted key"):
            await node.service.pull(reference)
        scripted.requests.clear()
        node.want("insecureAcceptAnything")
        await node.service.pull(reference)
        assert scripted.paths() == ["/v2/gpg/kept/manifests/1"]


async def test_signed_by_a_sigstore_key(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    """OpenSSL makes key and signature, docker-registry keeps it, attached as cosign does. (cosign itself cannot be had, and
    Debian's skopeo is built without.)"""
    reference = signer.registry.put(MADE, "sigstore/a:1")
    key = signer.sign_by_openssl(reference, MADE.digest, "joe")
    node.want_sigstore(key)
    pulled = await node.service.pull(reference)
    node.service.check_policy(pulled, reference)
    moved = signer.registry.put(MADE, "sigstore/moved:1")
    with pytest.raises(PermissionDeniedError, match="there is none"):
        await node.service.pull(moved)
    node.want_sigstore(signer.sign_by_openssl(moved, MADE.digest, "eve"))
    with pytest.raises(PermissionDeniedError, match="no trusted key"):
        await node.service.pull(reference)
    with pytest.raises(PermissionDeniedError, match="no trusted key"):
        node.service.check_policy(pulled, reference)


async def test_a_key_that_has_expired_or_was_revoked(node: Verifier, signer: Signer, tmp_path: Path) -> None:
    signer.gpg_key("joe@example.com")
    reference = signer.sign_by_gpg(write_layout(tmp_path / "layout", MADE), "gpg/old:1", "joe@example.com")
    [revocation] = (signer.directory / "gnupg/openpgp-revocs.d").iterdir()
    armored = revocation.read_text().replace(":-----BEGIN", "-----BEGIN")
    subprocess.run(
        [require_tool("gpg"), "--homedir", str(signer.directory / "gnupg"), "--batch", "--import"],
        input=armored.encode(),
        check=True,
        capture_output=True,
    )
    node.want_gpg(signer.exported("joe@example.com"))
    with pytest.raises(PermissionDeniedError, match="no trusted key"):
        await node.service.pull(reference)


def test_a_signed_image_runs(signer: Signer, tmp_path: Path) -> None:
    """The policy is asked again when a container is created: what it does not allow any more, or never has, does not run."""
    small_image.write_layout(tmp_path / "layout")
    key = signer.gpg_key("joe@example.com")
    reference = signer.sign_by_gpg(tmp_path / "layout", "run/busybox:1", "joe@example.com")
    policy = tmp_path / "policy.json"

    def want(key: bytes) -> None:
        entry = {"type": "signedBy", "keyType": "GPGKeys", "keyData": base64.b64encode(key).decode()}
        policy.write_text(json.dumps({"default": [entry]}))

    want(key)
    image = {"signature_policy": str(policy), "registries_d": str(signer.registries_d)}
    settings = Settings(default_runtime="runc", registries_conf=signer.registry.registries_conf(), image=image)
    with Daemon(settings) as daemon:
        node = Node(daemon, daemon.cri.pull(reference))
        volume = cri.Mount(container_path="/m", image=cri.ImageSpec(image=reference), readonly=True)
        assert node.pod().printed("echo", "verified", mounts=[volume]) == "verified"
        want(signer.gpg_key("eve@example.com"))
        with refused(grpc.StatusCode.PERMISSION_DENIED, reference.rpartition(":")[0], "no trusted key"):
            node.pod().create("true")
        with refused(grpc.StatusCode.PERMISSION_DENIED, "no trusted key"):
            daemon.cri.pull(reference)
        node.clean()
