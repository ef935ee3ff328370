"""The file as a whole: its root table, and how TOML becomes the dataclasses of the tables."""

import tomllib
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from crid.config.api import ApiConfig
from crid.config.image import ImageConfig
from crid.config.metrics import MetricsConfig
from crid.config.network import NetworkConfig
from crid.config.nri import NriConfig
from crid.config.runtime import RuntimeConfig
from crid.config.stats import StatsConfig
from crid.errors import InvalidArgumentError

DEFAULT_PATH = Path("/etc/crid/crid.conf")


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, `[crid]` being its root table."""

    root: str = "/var/lib/crid"
    runroot: str = "/var/run/crid"
    api: ApiConfig = field(default_factory=ApiConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    nri: NriConfig = field(default_factory=NriConfig)
    stats: StatsConfig = field(default_factory=StatsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        for name in ("root", "runroot"):
            if not Path(getattr(self, name)).is_absolute():
                raise InvalidArgumentError(f"crid.{name}: must be an absolute path")
        for table in (self.api, self.runtime, self.image, self.network, self.nri, self.stats, self.metrics):
            table.check()


def load(path: Path, *, required: bool = True) -> Config:
    """Read and check the file at `path`. Without `required`, a missing file gives the defaults.

    Raises InvalidArgumentError naming the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not required:
            return Config()
        raise InvalidArgumentError(f"configuration {path}: {error.strerror}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"configuration {path}: {error}") from error
    try:
        return parse(document)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"configuration {path}: {error}") from error


def parse(document: dict[str, Any]) -> Config:
    """Build a Config from parsed TOML. Raises InvalidArgumentError naming the key."""
    unknown = sorted(set(document) - {"crid"})
    if unknown:
        raise InvalidArgumentError(f"unknown table [{unknown[0]}]: everything is below [crid]")
    config: Config = _build(Config, document.get("crid", {}), "crid")
    config.check()
    return config


def _build(kind: Any, table: object, where: str) -> Any:
    """Build the dataclass `kind` from a TOML table; `where` is the dotted name used in errors."""
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"{where}: must be a table")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(table) - {item.name for item in fields(kind)})
    if unknown:
        raise InvalidArgumentError(f"{where}.{unknown[0]}: unknown key")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in table.items()})


def _value(kind: Any, value: object, where: str) -> object:
    """Check `value` against the annotation `kind` and return it, built where `kind` is a table."""
    if is_dataclass(kind):
        return _build(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is dict:
        if not isinstance(value, dict):
            raise InvalidArgumentError(f"{where}: must be a table")
        element = typing.get_args(kind)[1]
        return {name: _value(element, entry, f"{where}.{name}") for name, entry in value.items()}
    if origin is list:
        if not isinstance(value, list):
            raise InvalidArgumentError(f"{where}: must be an array")
        element = typing.get_args(kind)[0]
        return [_value(element, entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    assert not isinstance(kind, UnionType), "no key has a union type"
    if type(value) is not kind:
        raise InvalidArgumentError(f"{where}: must be of type {kind.__name__}, is {type(value).__name__}")
    return value
