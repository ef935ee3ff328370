"""A real registry on a loopback port: Debian's docker-registry (distribution), with storage that lives as long as it."""

import contextlib
import json
import random
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.layers import MadeImage
from tests.harness.tools import eventually, require_tool

_ports = iter(random.sample(range(20000, 30000), 10000))


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on, and that the kernel gives to no client: those begin at 32768."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("every port is taken, or was given away")


class LocalRegistry:
    """`docker-registry serve` below `directory`, from `with` to its end.

    With a `port` of the caller's choice the directory is kept, so that another one can serve the same images again.
    """

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self._program = require_tool("docker-registry")
        self.directory = directory
        self.address = f"127.0.0.1:{port or free_port()}"
        self._keep = bool(port)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=self._keep)
        config = self.directory / "config.yml"
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "storage")}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        config.write_text(json.dumps(settings))  # JSON is YAML
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen([self._program, "serve", config], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        eventually(self._serves, f"registry at {self.address} answers")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        if not self._keep:
            shutil.rmtree(self.directory)

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:  # URLError is one, and so is an answer that did not come in time
            return False

    def push(self, layout: Path, name: str, *, layout_tag: str = "latest") -> str:
        """Copy the image of an OCI layout into the registry as `name` (with tag) and return the full reference."""
        reference = f"{self.address}/{name}"
        argv = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        require_tool("skopeo")
        subprocess.run([*argv, f"oci:{layout}:{layout_tag}", f"docker://{reference}"], check=True)
        return reference

    def put(self, made: MadeImage, name: str) -> str:
        """Upload an image as it is to `name` (with tag), by digests that skopeo would not keep; return the full reference."""
        repository, _, tag = name.rpartition(":")
        base = f"http://{self.address}/v2/{repository}"
        for digest, content in made.blobs.items():
            with urllib.request.urlopen(urllib.request.Request(f"{base}/blobs/uploads/", method="POST"), timeout=30) as begun:
                place = begun.headers["Location"]
            self._put(f"{place}&digest={digest}", content, "application/octet-stream")
        self._put(f"{base}/manifests/{tag}", made.manifest, made.media_type)
        return f"{self.address}/{name}"

    def _put(self, url: str, content: bytes, media_type: str) -> None:
        request = urllib.request.Request(url, content, {"Content-Type": media_type}, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 201

    def registries_conf(self) -> str:
        """Return the text of a registries.conf that lets a client use plain HTTP here."""
        return f'[[registry]]\nlocation = "{self.address}"\ninsecure = true\n'
