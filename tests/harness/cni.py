"""CNI for tests: configuration files, real plugins that keep their state below the test's directory, and scripted ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crid.net.cni import CniNetwork

REAL = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""

VERSIONS = '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}'
RESULT = '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"address":"192.0.2.7/24","interface":0}]}'


class CniDirectory:
    """A directory of configurations, one of scripted plugins, and the log of what these were asked."""

    def __init__(self, directory: Path) -> None:
        self.configurations = directory / "net.d"
        self.programs = directory / "bin"
        self.state = directory / "state"
        self.cache = directory / "crid-cni"
        self._calls = directory / "calls"
        for path in (self.configurations, self.programs, self.state, self._calls):
            path.mkdir(parents=True)

    def write(self, name: str, document: Mapping[str, Any] | str) -> Path:
        """Write a configuration file, whole at once as an installer does."""
        path = self.configurations / name
        temporary = path.with_name(f".{name}.new")
        temporary.write_text(document if isinstance(document, str) else json.dumps(document))
        temporary.rename(path)
        return path

    def write_list(self, *plugins: Mapping[str, Any], name: str = "net", version: str = "1.1.0", **more: Any) -> Path:
        """Write a list of plugins as 10-NAME.conflist."""
        return self.write(f"10-{name}.conflist", {"cniVersion": version, "name": name, "plugins": plugins, **more})

    def script(self, kind: str, **verbs: str) -> None:
        """Make a plugin out of shell code for some verbs; the others succeed, ADD with one address. Each call leaves a
        file with its environment and its input."""
        bodies = {"VERSION": f"echo '{VERSIONS}'", "ADD": f"echo '{RESULT}'", **verbs}
        cases = "\n".join(f"{verb})\n{body}\n;;" for verb, body in bodies.items())
        path = self.programs / kind
        text = f"""#!/bin/sh
input=$(cat)
number=$(date +%s%N)
{{ env | grep ^CNI_; echo "STDIN=$input"; }} > {self._calls}/.$number.$$
mv {self._calls}/.$number.$$ {self._calls}/$number-{kind}-$CNI_COMMAND
state={self.state}
case $CNI_COMMAND in
{cases}
esac
"""
        path.write_text(text)
        path.chmod(0o755)

    def calls(self, *verbs: str) -> list[str]:
        """Return "kind verb" of each call so far, in order; only of these verbs if any are given."""
        found = [path.name.split("-", 1)[1].rpartition("-") for path in sorted(self._calls.iterdir()) if path.name[0] != "."]
        return [f"{kind} {verb}" for kind, _, verb in found if not verbs or verb in verbs]

    def call(self, kind: str, verb: str) -> dict[str, str]:
        """Return the environment, and as STDIN the input, of the last such call."""
        path = max(path for path in self._calls.iterdir() if path.name.endswith(f"-{kind}-{verb}"))
        return dict(line.split("=", 1) for line in path.read_text().splitlines())

    def bridge(self, subnet: str = "10.93.0.0/24", bridge: str = "cnit0", **more: Any) -> dict[str, Any]:
        """Return the configuration of the real bridge plugin with host-local addresses."""
        ipam: dict[str, Any] = {"type": "host-local", "dataDir": str(self.state), "ranges": [[{"subnet": subnet}]]}
        ipam["routes"] = [{"dst": "0.0.0.0/0"}]
        return {"type": "bridge", "bridge": bridge, "isGateway": True, "ipam": ipam, **more}

    def cached(self) -> list[Path]:
        """Return the files of crid's own cache."""
        return sorted((self.cache / "results").glob("*")) if self.cache.exists() else []

    async def settled(self, network: CniNetwork) -> None:
        """Wait until what `network` does by itself is done."""
        for task in set(network._supervisor._tasks):
            if task.get_name().startswith("collect"):
                await task

    def leases(self) -> list[str]:
        """Return the addresses that host-local has given."""
        return sorted(path.name for path in self.state.glob("*/*") if path.name[0].isdigit() or ":" in path.name)
