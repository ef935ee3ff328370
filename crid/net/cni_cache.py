"""What is attached to CNI networks: one file for each pod's interface, in the form that libcni keeps (kind cniCacheV1).

An attachment is written before its ADD begins and again with its result, so that whatever happens in between a DEL with
the very configuration that the ADD had can be run, also by the next daemon, and also when the configuration has changed
or gone meanwhile. A file goes when DEL has succeeded. Files survive a reboot, as the addresses that plugins gave do.
"""

import base64
import binascii
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError, UnavailableError
from crid.linux.files import says_nothing, write_atomic
from crid.log import fields
from crid.net import cni_config
from crid.net.cni_config import NetworkList
from crid.net.cni_exec import Attachment

logger = logging.getLogger(__name__)

_KIND = "cniCacheV1"
_FILE = re.compile(r"[^.].*-([0-9a-f]+)-[^-]+")


@dataclass(frozen=True, slots=True)
class CachedAttachment:
    """One pod's interface on one network: how it was asked for, and the result, None if ADD did not end."""

    network: NetworkList
    attachment: Attachment
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None


class AttachmentCache:
    """The files below `directory`, which is made when first needed. Raises UnavailableError if it cannot be used, also where a
    file cannot be read for want of descriptors or memory: it may be whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, cached: CachedAttachment) -> None:
        """Write the attachment's file."""
        attachment = cached.attachment
        document = {
            "kind": _KIND,
            "containerId": attachment.container_id,
            "config": base64.b64encode(cached.network.serialise()).decode(),
            "ifName": attachment.interface,
            "networkName": cached.network.name,
            "netns": attachment.namespace,
            "cniArgs": attachment.arguments,
            "capabilityArgs": cached.capabilities,
            **({"result": cached.result} if cached.result is not None else {}),
        }
        path = self._path(cached.network.name, attachment)
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, json.dumps(document).encode())
        except OSError as error:
            raise UnavailableError(f"CNI cache {path}: {error.strerror}") from error

    def forget(self, container_id: str) -> None:
        """Remove the pod's files, also those that cannot be read. Idempotent."""
        for path in self._files(container_id):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UnavailableError(f"CNI cache {path}: {error.strerror}") from error

    def holds(self, container_id: str) -> bool:
        """Whether the pod has a file, readable or not."""
        return bool(self._files(container_id))

    def holders(self) -> set[str]:
        """Return the ids of all pods that have a file, readable or not."""
        found = (_FILE.fullmatch(path.name) for path in self._files())
        return {name[1] for name in found if name}

    def of(self, container_id: str) -> list[CachedAttachment]:
        """Return the attachments of one pod, as far as they can be read."""
        return list(self._load(self._files(container_id)))

    def all(self) -> list[CachedAttachment]:
        """Return all attachments."""
        return list(self._load(self._files()))

    def _files(self, container_id: str = "") -> list[Path]:
        """Return all files, or those of one pod. By hand, since pathlib keeps the patterns that it has compiled: one an id."""
        try:
            files = sorted(self._directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnavailableError(f"CNI cache {self._directory}: {error.strerror}") from error
        return [path for path in files if not container_id or f"-{container_id}-" in path.name]

    def _load(self, files: Iterable[Path]) -> Iterator[CachedAttachment]:
        for path in files:
            if path.name.startswith("."):  # cut off while it was written
                path.unlink(missing_ok=True)
                continue
            try:
                yield _parse(path.read_bytes(), str(path))
            except (OSError, InvalidArgumentError) as error:
                if says_nothing(error):
                    raise UnavailableError(f"CNI cache {path}: {error}") from error
                logger.error("an attachment to a CNI network cannot be read%s", fields(path=path, error=error))

    def _path(self, network: str, attachment: Attachment) -> Path:
        return self._directory / f"{network}-{attachment.container_id}-{attachment.interface}"


def cache_in(directory: Path) -> AttachmentCache:
    """Return the cache of the CNI network whose own directory is `directory`."""
    return AttachmentCache(directory / "results")


def _parse(content: bytes, source: str) -> CachedAttachment:
    """Raises InvalidArgumentError."""
    try:
        document = json.loads(content)
        if document["kind"] != _KIND:
            raise InvalidArgumentError(f"{source}: is of kind {document['kind']!r}")
        attachment = Attachment(
            container_id=document["containerId"],
            namespace=document.get("netns", ""),
            interface=document["ifName"],
            arguments=tuple((key, value) for key, value in document.get("cniArgs") or ()),
        )
        network = cni_config.parse(base64.b64decode(document["config"]), source)
        return CachedAttachment(network, attachment, document.get("capabilityArgs") or {}, document.get("result"))
    except (ValueError, LookupError, TypeError, RecursionError, binascii.Error) as error:
        raise InvalidArgumentError(f"{source}: {error!r}") from error
