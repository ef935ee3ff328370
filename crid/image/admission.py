"""The signature policy at work: at a pull, where signatures are fetched and kept, and at a container's creation.

    <root>/images/signatures/<image hex>.json    the signatures an image had when it was pulled

Kept signatures are only evidence: they are verified again at each use, against the policy as it is then. A policy that
asks for none costs a pull and a container nothing but a few stat(2).
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Protocol

from crid.config.reread import Reread
from crid.errors import CridError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from crid.image import signature_api, signatures, sigstore
from crid.image.document import off_loop
from crid.image.lookaside import Lookaside
from crid.image.policy import Policy
from crid.image.policy_file import read_policy
from crid.image.references import Reference, parse
from crid.image.signatures import OPENPGP, SIGSTORE, Signature
from crid.linux.files import remove_unfinished, write_atomic
from crid.model.digest import check_digest, has_digest, hexadecimal, whole
from crid.model.image import Descriptor, Image

DEFAULT_POLICY = Path("/etc/containers/policy.json")
DEFAULT_REGISTRIES_D = Path("/etc/containers/registries.d")


class SignatureSource(Protocol):
    """Where the signatures of an image may be: a registry's repository, or the web server that registries.d names for it."""

    async def manifest(self, version: str) -> tuple[bytes, str]:
        """Return the manifest with this tag or digest, and its media type. Raises NotFoundError."""

    async def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """Return a blob of at most `limit` bytes."""

    async def stored_signatures(self, digest: str) -> bytes | None:
        """Return what the registry's own store of signatures has for a manifest; None if it does not say that it has one."""

    async def document(self, url: str, limit: int) -> bytes:
        """Return what `url` holds, on whatever host, at most `limit` bytes. Raises NotFoundError."""


class Admission:
    """Decides with the policy file, or a namespace's own in `policy_directory`, where it has one."""

    def __init__(
        self,
        roots: Sequence[Path],
        policy_file: str = "",
        policy_directory: str = "",
        registries_d: Path = DEFAULT_REGISTRIES_D,
    ) -> None:
        """Signatures are kept below the first of `roots`; the others, read-only stores, may have some, too."""
        self._kept, *self._others = [root / "images" / "signatures" for root in roots]
        path = Path(policy_file) if policy_file else DEFAULT_POLICY
        self._policy = Reread(lambda: [path], lambda: read_policy(path, required=bool(policy_file)))
        self._directory = policy_directory
        self._lookaside = Lookaside(registries_d)
        self._keeping = threading.Lock()

    async def admit(
        self, source: SignatureSource, reference: Reference, digests: tuple[str, ...], image_id: str, namespace: str = ""
    ) -> None:
        """Check an image that is about to be pulled, the policy's name for it being `reference`; `digests` are those of its
        index and its manifest. Raises PermissionDeniedError, InvalidArgumentError (the policy), and as `source` does."""
        policy = self._for(namespace)
        forms = policy.wanted_forms(reference)
        found: tuple[Signature, ...] = ()
        for digest in dict.fromkeys(digests):
            if SIGSTORE in forms:
                found += tuple(await _attached(source, digest))
            if OPENPGP in forms:
                found += tuple(await self._openpgp(source, reference, digest))
        policy.check(reference, digests, found)
        if found:
            await asyncio.to_thread(self._keep, image_id, found)

    async def _openpgp(self, source: SignatureSource, reference: Reference, digest: str) -> list[Signature]:
        """Return those of the registry, if it says that it keeps signatures, or else those of the lookaside store."""
        try:
            stored = await source.stored_signatures(digest)
        except NotFoundError:
            return []
        if stored is not None:
            return await off_loop(stored, partial(signature_api.parse_stored, stored))
        return await self._lookaside.signatures(reference, digest, source.document)

    def check(self, image: Image, reference: str = "", namespace: str = "") -> None:
        """Check an image that is about to run. `reference` is what the user calls it; without it one of the image's own names
        must do. Raises PermissionDeniedError, InvalidArgumentError (the policy). Blocks only if signatures are wanted."""
        policy = self._for(namespace)
        names = _names(image, reference)
        digests = (image.manifest_digest, *(name.partition("@")[2] for name in image.repo_digests))
        refusal: PermissionDeniedError | None = None
        for name in names:
            try:
                wanted = name is not None and policy.wanted_forms(name)
                policy.check(name, digests, self._load(image.id) if wanted else ())
            except PermissionDeniedError as error:
                refusal = refusal or error
            else:
                return
        assert refusal is not None
        raise refusal

    def load(self, image_ids: Set[str]) -> None:
        """Delete the signatures of images other than `image_ids`, and what a kill has left."""
        if self._kept.exists():
            remove_unfinished(self._kept)
            self.forget({digest for path in self._kept.glob("*.json") if (digest := whole(path.stem))} - image_ids)

    def forget(self, image_ids: Iterable[str]) -> None:
        """Delete the signatures of images that are gone. Idempotent."""
        for image_id in image_ids:
            self._path(image_id).unlink(missing_ok=True)

    def _for(self, namespace: str) -> Policy:
        if namespace and self._directory and "/" not in namespace:
            path = Path(self._directory, f"{namespace}.json")
            if path.exists():
                return read_policy(path, required=True)
        return self._policy.get()

    def _path(self, image_id: str) -> Path:
        return self._kept / f"{hexadecimal(check_digest(image_id))}.json"

    def _keep(self, image_id: str, found: tuple[Signature, ...]) -> None:
        self._kept.mkdir(mode=0o700, exist_ok=True)
        with self._keeping:
            all_of_them = tuple(dict.fromkeys((*found, *self._load(image_id))))
            write_atomic(self._path(image_id), json.dumps(signatures.encode(all_of_them)).encode(), durable=True)

    def _load(self, image_id: str) -> tuple[Signature, ...]:
        found: tuple[Signature, ...] = ()
        for directory in (self._kept, *self._others):
            with contextlib.suppress(OSError, ValueError, CridError):  # damaged evidence is none
                found += signatures.decode(json.loads((directory / self._path(image_id).name).read_bytes()))
        return found


def _names(image: Image, reference: str) -> Sequence[Reference | None]:
    """Return the names that the policy may be asked about: the user's, if it is one of the image's, or else all of these."""
    try:
        given = [parse(reference)] if reference else []
    except InvalidArgumentError:
        given = []  # an id
    own = [parse(name) for name in (*image.repo_tags, *image.repo_digests)]
    known = {name.repository for name in own}
    return [name for name in given if name.repository in known] or own or [None]


async def _attached(source: SignatureSource, digest: str) -> list[Signature]:
    """Return the signatures that are attached to the manifest `digest`; none if the registry has none."""
    if not (tag := sigstore.signature_tag(digest)):
        return []
    try:
        content, _ = await source.manifest(tag)
    except NotFoundError:
        return []
    found = []
    for payload_digest, size, signature in await off_loop(content, partial(sigstore.parse_attached, content)):
        payload = await source.small_blob(Descriptor("", payload_digest, size), signatures.PAYLOAD_LIMIT)
        if has_digest(payload, payload_digest):
            found.append(sigstore.with_payload(signature, payload))
    return found
