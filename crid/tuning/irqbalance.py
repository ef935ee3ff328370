"""irqbalance: the daemon that spreads interrupts over the CPUs, and which of them it leaves alone.

Its configuration outlives a reboot, so what it banned before crid changed it is kept in a file that does, too.
"""

import logging
import os
from pathlib import Path

from crid.errors import InvalidArgumentError
from crid.linux import process
from crid.log import fields
from crid.model import cpus
from crid.tuning.files import HostFiles
from crid.tuning.plan import IRQBALANCE_FILES
from crid.tuning.rules import BannedCpus

logger = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds for systemctl or irqbalance itself."""
_RULE = BannedCpus()


class Irqbalance:
    """The host's. `saved` is None where nothing is to be kept."""

    def __init__(self, files: HostFiles, configuration: str = "", saved: Path | None = None) -> None:
        self._files = files
        self._configured = configuration
        self._saved = saved

    @property
    def configuration(self) -> str:
        """Return its configuration's path, empty if there is none."""
        candidates = (self._configured,) if self._configured else IRQBALANCE_FILES
        return next((path for path in candidates if self._files.exists(path)), "")

    def save(self) -> None:
        """Keep what the configuration bans, unless that is kept already. Raises OSError."""
        path = self.configuration
        if path and self._saved is not None and not self._saved.exists():
            self._saved.write_text(cpus.to_list(_RULE.banned(self._files.read(path))) + "\n")

    def forget(self) -> None:
        """The configuration is again as it was."""
        if self._saved is not None:
            self._saved.unlink(missing_ok=True)

    async def restore(self) -> None:
        """Set back what is kept: the host has been rebooted with the configuration changed. Raises nothing."""
        path = self.configuration
        if self._saved is None or not self._saved.exists() or not path:
            return
        try:
            banned = cpus.parse(self._saved.read_text())
            text = self._files.read(path)
            if _RULE.banned(text) != banned:
                self._files.replace(path, _RULE.with_banned(text, banned))
                logger.info("irqbalance bans what it did before%s", fields(file=path, cpus=cpus.to_list(banned) or "none"))
                await self.apply()
            self.forget()
        except (OSError, InvalidArgumentError) as error:
            logger.warning("irqbalance's configuration cannot be set back%s", fields(file=path, error=error))

    async def apply(self) -> None:
        """Have irqbalance heed its configuration: restart the service, or where that is not enabled run it once.

        Raises nothing: a container is worth starting without. Restarts that come together are one to systemd.
        """
        path = self.configuration
        if path and await _succeeds("systemctl", "--quiet", "is-enabled", "irqbalance"):
            if not await _succeeds("systemctl", "restart", "irqbalance"):
                logger.warning("irqbalance cannot be restarted")
            return
        if process.find_program("irqbalance") is None:
            logger.info("no irqbalance is installed: only new interrupts keep off the CPUs")
            return
        text = self._files.read(path) if path else ""
        words = {_RULE.variable: _RULE.with_banned("", _RULE.banned(text)).partition("=")[2].strip('"')}
        if not await _succeeds("irqbalance", "--oneshot", environment=words):
            logger.warning("irqbalance --oneshot failed")


async def _succeeds(program: str, *arguments: str, environment: dict[str, str] | None = None) -> bool:
    path = process.find_program(program)
    if path is None:
        return False
    settings = {"PATH": os.environ.get("PATH", ""), **(environment or {})}
    try:
        done = await process.run([str(path), *arguments], timeout=TIMEOUT, environment=settings)
    except (OSError, TimeoutError):
        return False
    return done.exit_code == 0
