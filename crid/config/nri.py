"""`[crid.nri]`: plugins."""

from dataclasses import dataclass
from pathlib import Path

from crid.config.values import check_duration
from crid.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class NriConfig:
    """`[crid.nri]`: plugins. An empty `nri_listen` is nri.sock in the runroot.

    Not /var/run/nri/nri.sock, where NRI plugins look by themselves: two runtimes of one host would fight for it.
    """

    enable_nri: bool = True
    nri_listen: str = ""
    nri_plugin_registration_timeout: str = "5s"
    nri_plugin_request_timeout: str = "2s"

    def check(self) -> None:
        """Refuse values that can only be wrong. Raises InvalidArgumentError naming the key."""
        if self.nri_listen and not Path(self.nri_listen).is_absolute():
            raise InvalidArgumentError("crid.nri.nri_listen: must be the absolute path of a unix socket")
        for key in ("nri_plugin_registration_timeout", "nri_plugin_request_timeout"):
            check_duration(f"crid.nri.{key}", getattr(self, key), positive=True)
