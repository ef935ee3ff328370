"""An NRI plugin that is there whenever a daemon is: it adjusts every container, and must be told of all there is."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from crid.cri import nri_pb2 as nri
from crid.errors import CridError
from crid.nri.connection import RefusalError
from tests.harness.nri_plugin import ScriptedPlugin
from tests.harness.tools import PATIENCE
from tests.reliability.ledger import Ledger, Said

WORD = "CRID_LISTENER=heard"


class Listener:
    """A thread with one plugin after the other, each as long as its daemon lives."""

    def __init__(self, socket: Path, ledger: Ledger) -> None:
        self._socket = socket
        self._ledger = ledger
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="listener")
        self.connections = 0
        self.heard = 0
        self.complaints: list[str] = []

    def __str__(self) -> str:
        return f"{self.connections} times a plugin, which was asked or told {self.heard} times"

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Hang up, and return once the thread has ended. Idempotent."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    async def _run(self) -> None:
        while not self._ending.is_set():
            plugin = ScriptedPlugin(answers={"CreateContainer": self._adjust})
            try:
                async with plugin.connected(self._socket):
                    await self._listen(plugin)
            except (OSError, TimeoutError, RefusalError, CridError):
                pass  # no daemon, or one that dies just now
            self.heard += len(plugin.methods())
            time.sleep(0.02)

    async def _listen(self, plugin: ScriptedPlugin) -> None:
        promised = self._promised()
        await plugin.register()
        await asyncio.wait_for(plugin.synchronized.wait(), PATIENCE)
        self.connections += 1
        synchronizations: list[Any] = [request for name, request in plugin.heard if name == "Synchronize"]
        told = {item.id for request in synchronizations for item in list(request.pods) + list(request.containers)}
        if missing := (promised & self._promised()) - told:
            self.complaints.append(f"a plugin was not told of {sorted(missing)}")
        while not self._ending.is_set() and not plugin.connection.closed:
            await asyncio.sleep(0.02)

    @staticmethod
    def _adjust(request: Any) -> nri.CreateContainerResponse:
        key, value = WORD.split("=")
        adjustment = nri.ContainerAdjustment(env=[nri.KeyValue(key=key, value=value)])
        return nri.CreateContainerResponse(adjust=adjustment)

    def _promised(self) -> set[str]:
        """Return the ids of the pods and containers that are there by what the clients were told."""
        with self._ledger.lock:
            pods = [facts for facts in self._ledger.pods if facts.stopped is Said.NO]
            containers = [facts for facts in self._ledger.containers if facts.removed is Said.NO and facts.pod in pods]
            return {*(facts.id for facts in pods), *(facts.id for facts in containers)} - {""}
