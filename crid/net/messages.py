"""pyroute2's three rtnetlink messages, without the rest of pyroute2.

`import pyroute2` loads all it has (a database, DHCP, nl80211, ...): 150 modules, 10 MiB and 80 ms, for a daemon that needs
three encoders. Python runs a package's `__init__` whenever one of its modules is imported, so while these are loaded an
empty package stands in its place. It is taken away again: whoever imports pyroute2 later gets all of it.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_PACKAGE = "pyroute2"


def _load(*names: str) -> tuple[Any, ...]:
    """Import modules of the package. Raises ImportError."""
    stand_in = None
    if _PACKAGE not in sys.modules:
        if (spec := find_spec(_PACKAGE)) is None:
            raise ImportError(f"the package {_PACKAGE} is not installed", name=_PACKAGE)
        stand_in = sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
        stand_in.__path__ = list(spec.submodule_search_locations or ())
    try:
        return tuple(import_module(f"{_PACKAGE}.{name}") for name in names)
    finally:
        if stand_in is not None:
            del sys.modules[_PACKAGE]


_link, _address, _route = _load("netlink.rtnl.ifinfmsg", "netlink.rtnl.ifaddrmsg", "netlink.rtnl.rtmsg")
LinkMessage: Any = _link.ifinfmsg
AddressMessage: Any = _address.ifaddrmsg
RouteMessage: Any = _route.rtmsg
