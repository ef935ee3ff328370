"""CNI network configurations: what a file says, and what a plugin is given on stdin. Pure but for `load`, which reads.

A file is a list of plugins (`.conflist`) or a single one (`.conf`, `.json`), which is a list of one. Rules: CNI
specification 1.1, sections 1 and 3. A plugin's own keys are passed on unread.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crid.errors import InvalidArgumentError
from crid.linux.files import read_regular

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""The versions of the specification that crid speaks, oldest first."""

SUFFIXES = (".conflist", ".conf", ".json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TYPE = re.compile(r"[^/\0]+")
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """One plugin of a list: the program's name, which capabilities it declares, and all that its configuration says."""

    type: str
    capabilities: frozenset[str]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkList:
    """One network. `versions` are those that its author offers and crid speaks, the newest first; `version` is in use."""

    name: str
    version: str
    versions: tuple[str, ...]
    plugins: tuple[PluginConfig, ...]
    disable_check: bool = False
    disable_gc: bool = False
    inlined_only: bool = True
    source: str = ""

    def at_least(self, version: str) -> bool:
        """Whether the version in use is `version` or newer."""
        return VERSIONS.index(self.version) >= VERSIONS.index(version)

    def in_version(self, version: str) -> "NetworkList":
        """Return the same network in another version."""
        return replace(self, version=version)

    def has_capability(self, name: str) -> bool:
        """Whether any plugin declares it."""
        return any(name in plugin.capabilities for plugin in self.plugins)

    def serialise(self) -> bytes:
        """Return the list as JSON that `parse` understands, whole: what was read from other files is in it."""
        return json.dumps(
            {
                "cniVersion": self.version,
                "name": self.name,
                "disableCheck": self.disable_check,
                "disableGC": self.disable_gc,
                "loadOnlyInlinedPlugins": True,
                "plugins": [plugin.document for plugin in self.plugins],
            }
        ).encode()


def parse(content: bytes, source: str) -> NetworkList:
    """Return the network that a file describes. Raises InvalidArgumentError naming `source` and what is wrong."""
    try:
        return _network(_document(content, source), source)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"CNI configuration {source}: {error}") from error


def load(path: Path) -> NetworkList:
    """Read a file, and the plugins that it keeps in the directory of its network's name (since 1.1).

    Raises InvalidArgumentError naming the file and what is wrong.
    """
    network = parse(_read(path), str(path))
    more: list[PluginConfig] = []
    if not network.inlined_only:
        files = sorted((path.parent / network.name).glob("*.conf"))
        more += [_plugin(_document(_read(file), str(file)), str(file)) for file in files]
    if not network.plugins and not more:
        raise InvalidArgumentError(f"CNI configuration {path}: has no plugins")
    return replace(network, plugins=(*network.plugins, *more))


def plugin_input(
    network: NetworkList,
    plugin: PluginConfig,
    *,
    capabilities: Mapping[str, Any] | None = None,
    previous: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the document for a plugin's stdin: its own, with the network's name and version, those of `capabilities` that
    it declares, and the result so far."""
    document = {**plugin.document, "name": network.name, "cniVersion": network.version, **(more or {})}
    if wanted := {name: value for name, value in (capabilities or {}).items() if name in plugin.capabilities}:
        document["runtimeConfig"] = wanted
    if previous is not None:
        document["prevResult"] = previous
    return document


def candidates(directory: Path) -> list[Path]:
    """Return the configuration files of `directory` in their order, none if it is missing. Raises OSError."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES and not path.is_dir())
    except FileNotFoundError:
        return []


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, _MAX_FILE_BYTES)
    except OSError as error:
        raise InvalidArgumentError(f"CNI configuration {path}: {error.strerror}") from error


def _document(content: bytes, source: str) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"CNI configuration {source}: {error}") from error


def _network(document: object, source: str) -> NetworkList:
    if not isinstance(document, dict):
        raise InvalidArgumentError("is not a JSON object")
    single = "type" in document and "plugins" not in document
    entries = [document] if single else document.get("plugins", [])
    inlined_only = single or _flag(document, "loadOnlyInlinedPlugins")
    if not isinstance(entries, list) or (not entries and (inlined_only or "plugins" in document)):
        raise InvalidArgumentError("plugins: must be an array of at least one plugin")
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"name: {name!r} is no name: letters, digits, '_', '.' and '-', a letter or digit first")
    versions = _versions(document)
    return NetworkList(
        name=name,
        version=versions[0],
        versions=versions,
        plugins=tuple(_plugin(entry, f"plugins[{number}]") for number, entry in enumerate(entries)),
        disable_check=_flag(document, "disableCheck"),
        disable_gc=_flag(document, "disableGC"),
        inlined_only=inlined_only,
        source=source,
    )


def _plugin(entry: object, where: str) -> PluginConfig:
    if not isinstance(entry, dict):
        raise InvalidArgumentError(f"{where}: is not a JSON object")
    kind = entry.get("type")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind) or kind in (".", ".."):
        raise InvalidArgumentError(f"{where}.type: {kind!r} is no program's name")
    declared = entry.get("capabilities") or {}
    if not isinstance(declared, dict):
        raise InvalidArgumentError(f"{where}.capabilities: is not a JSON object")
    return PluginConfig(kind, frozenset(name for name, wanted in declared.items() if wanted is True), entry)


def _versions(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the versions offered, newest first. A file that names none is of the first version (specification 0.1)."""
    offered = document.get("cniVersions", [])
    single = document.get("cniVersion")
    if not isinstance(offered, list) or not all(isinstance(version, str) for version in [*offered, single or ""]):
        raise InvalidArgumentError("cniVersion, cniVersions: must be a string and an array of strings")
    every: Sequence[str] = [*offered, single] if single else offered or [VERSIONS[0]]
    known = sorted({VERSIONS.index(version) for version in every if version in VERSIONS}, reverse=True)
    if not known:
        raise InvalidArgumentError(f"cniVersion {', '.join(every)} is none of {', '.join(VERSIONS)}")
    return tuple(VERSIONS[index] for index in known)


def _flag(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{key}: must be true or false")
    return value
