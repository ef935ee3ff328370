"""Signatures that other people's programs make: skopeo with a gpg key."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.harness.registry import LocalRegistry
from tests.harness.tools import require_tool


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs in `directory`, below which its keys, its registries.d and its store of signatures are."""

    directory: Path
    registry: LocalRegistry

    @property
    def registries_d(self) -> Path:
        """A registries.d that names the store of signatures, for skopeo to write to and crid to read."""
        directory = self.directory / "registries.d"
        if not directory.exists():
            directory.mkdir()
            store = f"file://{self.directory / 'lookaside'}"
            default = {"lookaside": store, "lookaside-staging": store}
            (directory / "default.yaml").write_text(json.dumps({"default-docker": default}))  # JSON is YAML
        return directory

    def gpg_key(self, name: str, *options: str) -> bytes:
        """Make a key for `name` and return its public half, armored."""
        self._gpg("--quick-generate-key", *options, name, "default", "default", "never")
        return self.exported(name)

    def exported(self, name: str) -> bytes:
        """Return the public half of a key as it is now, armored."""
        return self._gpg("--armor", "--export", name)

    def sign_by_gpg(self, layout: Path, name: str, key: str) -> str:
        """Push an OCI layout as `name`, signed by the gpg key `key`; return the full reference."""
        return self._copy(layout, name, "--sign-by", key)

    def _copy(self, layout: Path, name: str, *options: str) -> str:
        reference = f"{self.registry.address}/{name}"
        argv = [str(require_tool("skopeo")), "--insecure-policy", "--registries.d", str(self.registries_d), "copy", "--quiet"]
        argv += ["--dest-tls-verify=false", *options, f"oci:{layout}:latest", f"docker://{reference}"]
        subprocess.run(argv, check=True, env=self._environment())
        return reference

    def _gpg(self, *arguments: str) -> bytes:
        argv = [str(require_tool("gpg")), "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        return subprocess.run(argv, check=True, env=self._environment(), capture_output=True).stdout

    def _environment(self) -> dict[str, str]:
        home = self.directory / "gnupg"
        home.mkdir(mode=0o700, exist_ok=True)
        return {**os.environ, "GNUPGHOME": str(home)}

    def close(self) -> None:
        """End the agent that gpg has started."""
        subprocess.run([require_tool("gpgconf"), "--kill", "all"], check=True, env=self._environment(), capture_output=True)
