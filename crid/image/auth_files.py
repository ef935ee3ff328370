"""Credentials kept on the node: files as containers-auth.json(5) describes them, and credential helpers.

    {"auths": {"registry.example/team": {"auth": "<base64 of USER:PASSWORD>"}}, "credHelpers": {"registry.example": "ecr"}}

The longest key that is the repository, or a path above it, counts. A helper is a program `docker-credential-NAME` that
gets a server's name on its standard input and prints JSON (the protocol of docker/docker-credential-helpers); it runs
with bounds on its time and its output. What is secret shows in no error and no log.

Order, the first that knows the repository wins: the pull's own credentials (not here), the file of the pod's namespace,
then the sources that registries.conf lists as `credential-helpers`, of which `containers-auth.json` is the global file.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError, UnavailableError
from crid.image.auth import NONE, Credentials, decode_basic, registry_host
from crid.image.registries import AUTH_JSON
from crid.linux import process

HELPER_SECONDS = 30.0
_HELPER_OUTPUT = 1 << 16
_FILE_LIMIT = 1 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class AuthFile:
    """What a file says: credentials by key, and helpers by host."""

    auths: Mapping[str, Credentials] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)

    def find(self, repository: str) -> Credentials:
        """Return the credentials for `repository`, fully qualified; falsy if there are none."""
        key = repository
        while key:
            if key in self.auths:
                return self.auths[key]
            key = key.rpartition("/")[0]
        return NONE


def read_auth_file(path: Path) -> AuthFile:
    """Read `path`; a missing file is empty. Raises InvalidArgumentError naming the file and key, never a value."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except FileNotFoundError:
        return AuthFile()
    except OSError as error:
        raise InvalidArgumentError(f"auth file {path}: {error.strerror}") from error
    try:
        document = json.loads(content) if len(content) <= _FILE_LIMIT else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"auth file {path}: is not a JSON object of at most {_FILE_LIMIT} bytes")
    auths, helpers = document.get("auths") or {}, document.get("credHelpers") or {}
    if (
        not isinstance(auths, dict)
        or not isinstance(helpers, dict)
        or not all(isinstance(one, str) for one in helpers.values())
    ):
        raise InvalidArgumentError(f"auth file {path}: `auths` or `credHelpers` is malformed")
    found = {_key(key): _entry(entry, f"auth file {path}, {key[:200]!r}") for key, entry in auths.items()}
    return AuthFile({key: entry for key, entry in found.items() if entry}, {_key(host): name for host, name in helpers.items()})


def _key(key: str) -> str:
    """Return HOST[:PORT][/PATH]; old files have URLs, whose path says nothing."""
    if "://" in key or key.startswith("index.docker.io"):
        return registry_host(key)
    return key.rstrip("/")


def _entry(entry: Any, where: str) -> Credentials:
    if not isinstance(entry, dict):
        raise InvalidArgumentError(f"{where}: is not an object")
    token, auth = entry.get("identitytoken") or "", entry.get("auth") or ""
    if not isinstance(token, str) or not isinstance(auth, str):
        raise InvalidArgumentError(f"{where}: must hold strings")
    if token:
        return Credentials(identity_token=token)
    if not auth:
        return NONE
    try:
        return Credentials(*decode_basic(auth))
    except InvalidArgumentError:
        raise InvalidArgumentError(f"{where}: `auth` is not base64 of USER:PASSWORD") from None


@dataclass(frozen=True, slots=True)
class NodeCredentials:
    """The node's own sources. An empty path is a source that is not configured."""

    global_file: str = ""
    namespaced_directory: str = ""

    def take_namespaced(self, namespace: str, repository: str) -> AuthFile:
        """Return what a credential provider has left for a pull of `repository` by a pod of `namespace`, and remove it:
        as in CRI-O it is for one pull. The file is called NAMESPACE-SHA256(repository).json."""
        if not self.namespaced_directory or not namespace or "/" in namespace:
            return AuthFile()
        path = Path(self.namespaced_directory, f"{namespace}-{hashlib.sha256(repository.encode()).hexdigest()}.json")
        try:
            return read_auth_file(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    async def find(self, repository: str, sources: Sequence[str], namespaced: AuthFile) -> Credentials:
        """Return the credentials for `repository`, of the first of the `sources` that has some; falsy for none.

        Raises InvalidArgumentError for a malformed file, UnavailableError for a helper that fails.
        """
        if found := namespaced.find(repository):
            return found
        for source in sources:
            if source == AUTH_JSON:
                found = await self._global(repository)
            else:
                found = await ask_helper(source, repository.partition("/")[0])
            if found:
                return found
        return NONE

    async def _global(self, repository: str) -> Credentials:
        if not self.global_file:
            return NONE
        file = read_auth_file(Path(self.global_file))
        helper = file.helpers.get(repository.partition("/")[0])
        return (await ask_helper(helper, repository.partition("/")[0]) if helper else NONE) or file.find(repository)


async def ask_helper(name: str, host: str) -> Credentials:
    """Return what the program `docker-credential-NAME` has for `host`, falsy if it has nothing.

    Raises UnavailableError naming the program if it is missing, fails or is not done in time.
    """
    program = f"docker-credential-{name}"
    path = process.find_program(program) if _HELPER_NAME.fullmatch(name) else None
    if path is None:
        raise UnavailableError(f"credential helper {program}: is not in PATH")
    server = "https://index.docker.io/v1/" if host == "docker.io" else host
    try:
        done = await process.run(
            [str(path), "get"],
            timeout=HELPER_SECONDS,
            stdin=server.encode(),
            new_process_group=True,
            output_limit=_HELPER_OUTPUT,
        )
    except (TimeoutError, OSError) as error:
        raise UnavailableError(f"credential helper {program}: {str(error) or 'not done in time'}") from error
    if done.exit_code != 0:
        if b"credentials not found" in done.stdout:
            return NONE
        raise UnavailableError(f"credential helper {program}: ended with {done.exit_code} for {host}")
    try:
        document = json.loads(done.stdout)
        username, secret = str(document["Username"]), str(document["Secret"])
    except (ValueError, KeyError, TypeError):
        raise UnavailableError(f"credential helper {program}: printed no credentials for {host}") from None
    if username == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(username, secret)
