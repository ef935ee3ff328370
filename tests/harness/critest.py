"""Runs critest, the validation suite of cri-tools, against a daemon of its own: `python -m tests.harness.critest --help`.

critest's images have fixed names on public registries. The daemon gets a registries.conf that sends these names to a
local registry, whose storage directory somebody has filled.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness.daemon import Daemon, Settings
from tests.harness.registry import free_port
from tests.harness.tools import eventually

HOSTS = ("registry.k8s.io", "gcr.io", "k8s.gcr.io")
"""The registries that critest names; the local one keeps each one's repositories below its name."""

NEEDS_THE_ORIGINAL = "public image with digest"
"""The one spec that asks for an image by digest, so that no other image can stand in for it."""


def registries_conf(address: str) -> str:
    """Return a registries.conf that has `address` in the place of all of HOSTS."""
    table = '[[registry]]\nprefix = "{host}"\nlocation = "{address}/{host}"\ninsecure = true\n'
    return "".join(table.format(host=host, address=address) for host in HOSTS)


@contextmanager
def registry(storage: Path) -> Iterator[str]:
    """Serve the images in `storage`, read-only, on a free loopback port, and yield the address."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="crid-critest-", dir="/tmp") as directory:
        config = Path(directory, "registry.yml")
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"http: {{addr: 127.0.0.1:{port}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {storage}}}, maintenance: {{readonly: {{enabled: true}}}}}}\n"
        )
        serving = subprocess.Popen(["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL)
        try:
            eventually(lambda: _listens(port), "the registry listens")
            yield f"127.0.0.1:{port}"
        finally:
            serving.terminate()
            serving.wait()


def run(program: Path, storage: Path, settings: Settings, more: Sequence[str]) -> int:
    """Run critest against a daemon with these settings and return its exit code."""
    with registry(storage) as address:
        settings.registries_conf = registries_conf(address)
        with Daemon(settings) as daemon:
            sockets = [f"-runtime-endpoint=unix://{daemon.socket}", f"-nri-socket={daemon.run_root / 'nri.sock'}"]
            argv = [str(program), *sockets, "-ginkgo.no-color", *more]
            return subprocess.run(argv, check=False).returncode


def _listens(port: int) -> bool:
    local = f":{port:04X} "
    return any(local in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())


def main() -> int:
    """Read the command line and the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", default="", help="the OCI runtime; empty: what the daemon chooses")
    parser.add_argument("--selinux", action="store_true", help="containers get SELinux labels")
    parser.add_argument("--report", help="a file for ginkgo's JSON report, for tests.harness.conformance")
    parser.add_argument("more", nargs="*", help="arguments for critest, after --")
    arguments = parser.parse_args()
    missing = [name for name in ("CRITEST", "CRITEST_REGISTRY") if not os.environ.get(name)]
    if missing:
        parser.error(f"not set: {', '.join(missing)}")
    more = ["-ginkgo.skip", NEEDS_THE_ORIGINAL, *arguments.more]
    if arguments.report:
        more.append(f"-ginkgo.json-report={arguments.report}")
    settings = Settings(default_runtime=arguments.runtime, runtime={"selinux": arguments.selinux})
    return run(Path(os.environ["CRITEST"]), Path(os.environ["CRITEST_REGISTRY"]), settings, more)


if __name__ == "__main__":
    sys.exit(main())
