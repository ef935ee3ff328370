"""Where signatures are kept that are not in a registry: registries.d/*.yaml (containers-registries.d(5)) and the stores that it
names, a directory (file://) or a web server.

    <lookaside>/<path of the repository>@sha256=<hex>/signature-1, signature-2, ...

The first number that is missing is the end. The most specific scope of a reference in any of the files counts, as for
policy.json; `default-docker` is for the rest. Where signatures would be written to is of no interest here, nor is
`use-sigstore-attachments`: what a registry has attached is looked for whenever a policy wants it.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from crid.config.reread import Reread, drop_ins
from crid.errors import InvalidArgumentError, NotFoundError
from crid.image.references import Reference, scopes
from crid.image.signatures import OPENPGP, PAYLOAD_LIMIT, SIGNATURES_LIMIT, Signature
from crid.linux.threads import Threads

Fetch = Callable[[str, int], Awaitable[bytes]]
"""Returns what a URL holds, at most so many bytes. Raises NotFoundError."""

PATIENCE = 30.0
"""Seconds for reading one file of a store, which is often another machine's directory."""
_READERS = 4
"""How many are read at a time."""
_DEFAULT = "default-docker"
_KNOWN = {"lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments"}


class Lookaside:
    """The stores that the files in `directory` name."""

    def __init__(self, directory: Path) -> None:
        self._stores = Reread(lambda: [directory, *drop_ins(directory, "*.yaml")], lambda: _read(directory))
        self._threads = Threads("lookaside", _READERS)

    def store(self, reference: Reference) -> str:
        """Return the URL of the store for `reference`, empty if there is none. Raises InvalidArgumentError naming the file."""
        stores = self._stores.get()
        return next((stores[scope] for scope in (*scopes(reference), _DEFAULT) if stores.get(scope)), "")

    async def signatures(self, reference: Reference, digest: str, fetch: Fetch) -> list[Signature]:
        """Return the OpenPGP signatures of the manifest `digest`. Raises as `store` and `fetch` do, but NotFoundError, and
        DeadlineExceededError for a file that cannot be read in time."""
        store = self.store(reference)
        found: list[Signature] = []
        place = f"{store}/{reference.path}@{digest.replace(':', '=')}"
        while store and len(found) < SIGNATURES_LIMIT:
            url = f"{place}/signature-{len(found) + 1}"
            try:
                content = await (self._file(url) if url.startswith("file://") else fetch(url, PAYLOAD_LIMIT))
            except NotFoundError:
                break
            found.append(Signature(b"", content, OPENPGP))
        return found

    async def _file(self, url: str) -> bytes:
        path = Path(unquote(urlsplit(url).path))
        return await self._threads.run(partial(_read_file, path), timeout=PATIENCE, what=f"reading signature {path}")


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(PAYLOAD_LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"signature {path}: not found") from error
    except OSError as error:
        raise InvalidArgumentError(f"signature {path}: {error.strerror}") from error
    if len(content) > PAYLOAD_LIMIT:
        raise InvalidArgumentError(f"signature {path}: is longer than {PAYLOAD_LIMIT} bytes")
    return content


def _read(directory: Path) -> Mapping[str, str]:
    """Return the store of each scope, `_DEFAULT` among them."""
    found: dict[str, str] = {}
    for file in drop_ins(directory, "*.yaml"):
        try:
            for scope, table in _scopes(file):
                if scope in found:
                    raise InvalidArgumentError(f"{scope}: another file has it, too")
                found[scope] = _store(table, scope)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{file}: {error}") from error
    return found


def _scopes(file: Path) -> list[tuple[str, Any]]:
    import yaml

    try:
        document = yaml.safe_load(file.read_bytes())
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise InvalidArgumentError(f"not YAML: {error}") from error
    document = {} if document is None else document
    if not isinstance(document, dict) or set(document) - {_DEFAULT, "docker"}:
        raise InvalidArgumentError(f"must hold {_DEFAULT} and docker, and nothing else")
    docker = {} if document.get("docker") is None else document["docker"]
    if not isinstance(docker, dict):
        raise InvalidArgumentError("docker: must be a mapping")
    default = [(_DEFAULT, document[_DEFAULT])] if document.get(_DEFAULT) else []
    return [*default, *((str(scope), table) for scope, table in docker.items())]


def _store(table: object, scope: str) -> str:
    if not isinstance(table, dict) or set(table) - _KNOWN:
        raise InvalidArgumentError(f"{scope}: must be a mapping of {', '.join(sorted(_KNOWN))}")
    url = table.get("lookaside") or table.get("sigstore") or ""
    if not isinstance(url, str) or (url and urlsplit(url).scheme not in ("file", "http", "https")):
        raise InvalidArgumentError(f"{scope}: lookaside: must be a URL of a file, http or https")
    return url.rstrip("/")
