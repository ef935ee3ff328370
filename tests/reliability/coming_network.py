"""A CNI configuration that an installer brings and takes away, over and over: a share of the pods gets its network from it."""

import contextlib
import json
import os
import subprocess
from ipaddress import ip_address, ip_network

from tests.harness.daemon import Daemon

BRIDGE = "cnikills"
SUBNET = ip_network("10.93.0.0/16")


class ComingNetwork:
    """Debian's bridge and host-local plugins, which keep their addresses below the daemon's directory."""

    name = "10-coming.conflist"

    def __init__(self, daemon: Daemon) -> None:
        self._configuration = daemon.directory / "no-cni" / self.name
        self._addresses = daemon.directory / "addresses"
        self._results = daemon.root / "network" / "cni" / "results"

    def come(self) -> None:
        """Write the configuration, whole at once, also after a power cut."""
        ipam = {"type": "host-local", "dataDir": str(self._addresses), "ranges": [[{"subnet": str(SUBNET)}]]}
        plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipam": ipam}
        document = {"cniVersion": "1.0.0", "name": "coming", "plugins": [plugin]}
        self._configuration.parent.mkdir(exist_ok=True)
        temporary = self._configuration.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._configuration)

    def go(self) -> None:
        """Remove it. The pods that have got their network from it keep it."""
        self._configuration.unlink(missing_ok=True)

    def holders(self) -> dict[str, str]:
        """Return who has which address, by the plugin's own book; a power cut may have taken a name from it."""
        found = {}
        for path in self._addresses.glob("*/*"):
            if path.name[0].isdigit():
                with contextlib.suppress(FileNotFoundError):  # given back since it was listed
                    found[path.name] = path.read_text().partition("\n")[0].strip()
        return found

    def traces(self) -> list[str]:
        """Return what there is of pods in the plugin's book and in crid's cache; each bears a pod's id."""
        held = [f"address {address} of {holder}" for address, holder in self.holders().items()]
        return [*held, *map(str, self._results.glob("*"))]

    def problems(self, pods: dict[str, str]) -> list[str]:
        """Say which of the pods that are ready, given with their addresses, do not have theirs for themselves."""
        holders = self.holders()
        found = [f"pod {pod} has no address" for pod, address in pods.items() if not address]
        if len(set(pods.values())) < len(pods):
            found.append(f"pods share addresses: {pods}")
        for pod, address in pods.items():
            if address and ip_address(address) in SUBNET and holders.get(address) != pod:
                found.append(f"pod {pod}: its address {address} is held for {holders.get(address)}")
        return found

    def remove(self) -> None:
        """Remove the bridge, which the plugin makes and leaves."""
        self.go()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False, stderr=subprocess.DEVNULL)
