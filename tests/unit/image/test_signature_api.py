import base64
import json

import pytest

from crid.errors import DataLossError
from crid.image.signature_api import parse_stored
from crid.image.signatures import OPENPGP, PAYLOAD_LIMIT, SIGNATURES_LIMIT, Signature


def entry(content: bytes = b"sig", **changes: object) -> dict[str, object]:
    encoded = base64.b64encode(content).decode()
    return {"schemaVersion": 2, "name": "sha256:00@1", "type": "atomic", "content": encoded, **changes}


def answer(*entries: object) -> bytes:
    return json.dumps({"signatures": entries}).encode()


def test_each_signature_of_the_known_kind() -> None:
    content = answer(entry(b"a"), entry(schemaVersion=1), entry(type="other"), entry(bytes(PAYLOAD_LIMIT + 1)), entry(b"b"))
    assert parse_stored(content) == [Signature(b"", b"a", OPENPGP), Signature(b"", b"b", OPENPGP)]
    assert parse_stored(b"{}") == parse_stored(b'{"signatures":null}') == []
    assert len(parse_stored(answer(*[entry()] * 1000))) == SIGNATURES_LIMIT


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"signatures":1}', answer(None), answer(entry() | {"content": 1}), answer(entry() | {"content": "&"}),
     answer({"schemaVersion": 2, "type": "atomic"})],
)  # fmt: skip
def test_what_is_no_answer(content: bytes) -> None:
    with pytest.raises(DataLossError, match=r"^stored signatures: "):
        parse_stored(content)
