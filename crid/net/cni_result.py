"""CNI results: what a plugin printed, read, checked and turned into another version's form. Pure.

The forms differ in how addresses are told: `ip4` and `ip6` until 0.2.0, a list whose entries say their IP version from
0.3.0 on, and the same list without it from 1.0.0 on (CNI specification, section 5).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from crid.errors import UnavailableError
from crid.net.addresses import Interface
from crid.net.cni_config import VERSIONS

_FIRST_WITH_LIST = VERSIONS.index("0.3.0")
_FIRST_WITHOUT_IP_VERSION = VERSIONS.index("1.0.0")


@dataclass(frozen=True, slots=True)
class CniError:
    """What a plugin says about its failure; `code` is 0 where it did not say it in the form that it should."""

    code: int
    message: str
    details: str = ""

    def __str__(self) -> str:
        text = f"{self.message}: {self.details}" if self.details else self.message
        return f"{text} (code {self.code})" if self.code else text


def parse(content: bytes, version: str) -> dict[str, Any]:
    """Return a result in the form of `version`. Raises UnavailableError saying what is wrong with it."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        shown = content[:200].decode(errors="replace")
        raise UnavailableError(f"its result is not JSON ({error}): {shown!r}") from error
    if not isinstance(document, dict):
        raise UnavailableError(f"its result is not a JSON object: {content[:200].decode(errors='replace')!r}")
    return convert(document, version)


def parse_error(stdout: bytes, stderr: bytes, exit_code: int) -> CniError:
    """Return what a plugin that failed said, in whatever form it did (specification, section 5: Error)."""
    try:
        document = json.loads(stdout)
        code, message = document["code"], document["msg"]
        if isinstance(code, int) and isinstance(message, str):
            return CniError(code, message, str(document.get("details", "")))
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    words = (stderr.strip() or stdout.strip()).decode(errors="replace")[-1000:]
    ended = f"killed by signal {exit_code - 128}" if exit_code > 128 else f"exit code {exit_code}"
    return CniError(0, f"{ended}: {words}" if words else f"{ended}, and it said nothing")


def convert(result: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return a result in the form of `version`. Raises UnavailableError for one that has no known form."""
    had = result.get("cniVersion", VERSIONS[0] if "ip4" in result or "ip6" in result else version)
    if had not in VERSIONS:
        raise UnavailableError(f"its result is of the unknown version {had!r}")
    source, target = VERSIONS.index(had), VERSIONS.index(version)
    converted = {**result, "cniVersion": version}
    if source < _FIRST_WITH_LIST <= target:
        old = [_old_entry(converted.pop(key, None)) for key in ("ip4", "ip6")]
        converted["ips"] = [{"address": entry.get("ip"), "gateway": entry.get("gateway")} for entry in old if entry]
        converted["routes"] = [route for entry in old if entry for route in entry.get("routes") or ()]
        for entry in converted["ips"]:
            if not entry["gateway"]:
                del entry["gateway"]
    ips = _entries(converted)
    if target < _FIRST_WITH_LIST:
        if source >= _FIRST_WITH_LIST:
            converted = {key: value for key, value in converted.items() if key in ("cniVersion", "dns")}
            for entry in reversed(ips):
                kept = {"ip": entry["address"], **({"gateway": entry["gateway"]} if entry.get("gateway") else {})}
                converted[f"ip{_interface(entry).version}"] = kept
        return converted
    if ips:
        plain = [{key: value for key, value in entry.items() if key != "version"} for entry in ips]
        numbered = [{"version": str(_interface(entry).version), **entry} for entry in plain]
        converted["ips"] = plain if target >= _FIRST_WITHOUT_IP_VERSION else numbered
    return converted


def addresses(result: Mapping[str, Any], interface: str) -> tuple[str, ...]:
    """Return the pod's addresses without prefix lengths, IPv4 and IPv6 in the plugin's order: those of its own interface
    `interface`, and those that belong to no interface."""
    newest = convert(result, VERSIONS[-1])
    interfaces = newest.get("interfaces") or []
    if not isinstance(interfaces, list):
        raise UnavailableError("its result has interfaces that are no list")
    found = []
    for entry in _entries(newest):
        index = entry.get("interface")
        if isinstance(index, int) and 0 <= index < len(interfaces):
            owner = interfaces[index]
            if isinstance(owner, dict) and (not owner.get("sandbox") or owner.get("name") not in ("", interface)):
                continue
        found.append(str(_interface(entry).ip))
    return tuple(dict.fromkeys(found))


def _old_entry(entry: object) -> dict[str, Any]:
    """Return the `ip4` or `ip6` of a result before 0.3.0."""
    if not isinstance(entry or {}, dict) or (isinstance(entry, dict) and not isinstance(entry.get("routes") or [], list)):
        raise UnavailableError("its result has an ip4 or ip6 of no known form")
    return entry if isinstance(entry, dict) else {}


def _entries(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = result.get("ips") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnavailableError("its result has ips that are no list of objects")
    return entries


def _interface(entry: Mapping[str, Any]) -> Interface:
    try:
        return ip_interface(entry["address"])
    except (KeyError, ValueError) as error:
        raise UnavailableError(f"its result has an address that is none: {entry.get('address')!r}") from error
