"""OpenPGP signatures that a registry keeps itself, as OpenShift's does (an extension of the registry's API). Pure.

A registry that has it says so in an answer's header, and then its signatures count instead of those of a lookaside store, as
for containers/image. GET /extensions/v2/<repository>/signatures/<digest> gives {"signatures": [...]}, each of them with
`schemaVersion` 2, `type` "atomic", and `content`, base64 of what a lookaside store would have in a file.
"""

import base64
import binascii

from crid.errors import DataLossError
from crid.image.document import read_object
from crid.image.signatures import OPENPGP, PAYLOAD_LIMIT, SIGNATURES_LIMIT, Signature

HEADER = "X-Registry-Supports-Signatures"
LIMIT = 4 << 20
"""Bytes of an answer."""


def parse_stored(content: bytes) -> list[Signature]:
    """Return the signatures in an answer; those of another kind are passed over. Raises DataLossError, and InvalidArgumentError
    as `read_object` does."""
    found: list[Signature] = []
    try:
        for entry in read_object(content, "stored signatures").get("signatures") or []:
            if (entry.get("schemaVersion"), entry.get("type")) == (2, "atomic") and len(found) < SIGNATURES_LIMIT:
                signature = base64.b64decode(entry["content"], validate=True)
                if len(signature) <= PAYLOAD_LIMIT:
                    found.append(Signature(b"", signature, OPENPGP))
    except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as error:
        raise DataLossError(f"stored signatures: malformed: {error!r}") from error
    return found
