"""What the values of several tables have in common: durations, and the checks of paths and durations."""

import re
from pathlib import Path

from crid.errors import InvalidArgumentError

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
"""Seconds of each unit of a duration."""


def seconds(duration: str) -> float:
    """Return a duration such as "4h", "1h30m" or "500ms" in seconds; "" and "0" are 0. Raises InvalidArgumentError."""
    if duration in ("", "0"):
        return 0.0
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", duration, re.ASCII):
        raise InvalidArgumentError(f"{duration!r} is no duration such as 4h, 1h30m or 500ms")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def check_duration(key: str, value: str, *, positive: bool = False) -> None:
    """Refuse a `value` of `key` that is no duration, or none above 0. Raises InvalidArgumentError naming the key."""
    try:
        allowed = seconds(value) > 0 or not positive
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{key}: {error}") from error
    if not allowed:
        raise InvalidArgumentError(f"{key}: must be more than 0")


def check_path(key: str, value: str) -> None:
    """Refuse a `value` of `key` that is neither empty nor an absolute path. Raises InvalidArgumentError naming the key."""
    if value and not Path(value).is_absolute():
        raise InvalidArgumentError(f"{key}: must be an absolute path")
