"""The configuration file: TOML, tables and keys named as in CRI-O's crio.conf where CRI-O has them.

Every key, its type and its default stand once, as the fields of a dataclass: one table, one file of this package. A key
that is not known, a value of another type or a value that contradicts another is refused with the key's full name: a
daemon that starts with a misspelt option would surprise somebody later.
"""

from crid.config.api import ApiConfig
from crid.config.file import DEFAULT_PATH, Config, load, parse
from crid.config.image import ImageConfig
from crid.config.metrics import COLLECTORS, MetricsConfig
from crid.config.network import NetworkConfig
from crid.config.nri import NriConfig
from crid.config.runtime import DEFAULT_CAPABILITIES, RuntimeConfig, RuntimeHandlerConfig
from crid.config.stats import METRIC_GROUPS, StatsConfig
from crid.config.values import seconds
from crid.config.workloads import WorkloadConfig, WorkloadResources

__all__ = [
    "COLLECTORS",
    "DEFAULT_CAPABILITIES",
    "DEFAULT_PATH",
    "METRIC_GROUPS",
    "ApiConfig",
    "Config",
    "ImageConfig",
    "MetricsConfig",
    "NetworkConfig",
    "NriConfig",
    "RuntimeConfig",
    "RuntimeHandlerConfig",
    "StatsConfig",
    "WorkloadConfig",
    "WorkloadResources",
    "load",
    "parse",
    "seconds",
]
