"""etc/crid.conf: it shows every key with its default, so that nobody needs to read crid/config/."""

import re
import tomllib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from crid import config

SAMPLE = Path(__file__).parents[3] / "etc" / "crid.conf"


def uncommented() -> dict[str, Any]:
    """Return the sample with its commented keys and tables in force."""
    lines = [re.sub(r"^# (?=\[[a-z.]+\]$|[a-z_]+ = )", "", line) for line in SAMPLE.read_text().splitlines()]
    return tomllib.loads("\n".join(lines))


def test_the_file_as_it_is_gives_the_defaults() -> None:
    """Everything in it is commented out."""
    assert config.load(SAMPLE) == config.Config()


def test_the_values_in_the_comments_are_the_defaults() -> None:
    """Uncommenting a line changes nothing."""
    document = uncommented()
    runtimes = document["crid"]["runtime"].pop("runtimes")
    workloads = document["crid"]["runtime"].pop("workloads")
    assert config.parse(document) == config.Config()
    assert runtimes == {"crun": asdict(config.RuntimeHandlerConfig())}
    assert workloads == {"management": asdict(config.WorkloadConfig())}


def test_every_key_is_mentioned() -> None:
    """No key of the dataclasses is missing."""
    table = uncommented()["crid"]
    assert set(table["runtime"]["runtimes"]["crun"]) == {field.name for field in fields(config.RuntimeHandlerConfig)}
    for field in fields(config.Config):
        assert field.name in table
        value = getattr(config.Config(), field.name)
        if is_dataclass(value):
            assert set(table[field.name]) == {item.name for item in fields(value)}
