"""Signatures that other people's programs make: skopeo with a gpg key, and openssl."""

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.harness.layers import MadeImage, image
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

    def sign_by_openssl(self, reference: str, digest: str, key: str) -> bytes:
        """Sign the manifest `digest` of `reference` by an ECDSA key called `key`, made if it is not there, and attach that in
        the registry as cosign does (specs/SIGNATURE_SPEC.md); return the key's public half, PEM."""
        private, payload = self.directory / f"{key}.pem", self.directory / "payload"
        if not private.exists():
            self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        repository = reference.rpartition(":")[0]
        critical = {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        }
        payload.write_text(json.dumps({"critical": critical, "optional": None}))
        signature = base64.b64encode(self._openssl("dgst", "-sha256", "-sign", private, payload)).decode()
        made = image([payload.read_bytes()], compression="")
        document = json.loads(made.manifest)
        document["layers"][0] |= {
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }
        attached = MadeImage(made.media_type, json.dumps(document).encode(), made.blobs)
        self.registry.put(attached, f"{repository.partition('/')[2]}:{digest.replace(':', '-')}.sig")
        return self._openssl("ec", "-in", private, "-pubout")

    def _openssl(self, *arguments: str | Path) -> bytes:
        return subprocess.run([require_tool("openssl"), *arguments], check=True, capture_output=True).stdout

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
