"""policy.json as it is read: what is right, and what is wrong and how that is said."""

from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError
from crid.image.policy_file import read_policy
from tests.unit.image.test_policy import allowed


def test_no_file_accepts_unless_it_was_asked_for(tmp_path: Path) -> None:
    assert allowed(read_policy(tmp_path / "none", required=False), "q.io/a")
    with pytest.raises(InvalidArgumentError, match="not found"):
        read_policy(tmp_path / "none", required=True)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("[", "not JSON"),
        ("{}", "`default` is missing"),
        ('{"default": []}', "at least one"),
        ('{"default": [{"type": "trust"}]}', "unknown type 'trust'"),
        ('{"default": [{"type": "reject"}], "x": 1}', "unknown key 'x'"),
        ('{"default": [{"type": "sigstoreSigned"}]}', "needs one of keyPath"),
        ('{"default": [{"type": "sigstoreSigned", "keyPath": "/none/key"}]}', "/none/key"),
        ('{"default": [{"type": "sigstoreSigned", "keyData": "eA=="}]}', "not a public key"),
        ('{"default": [{"type": "reject"}], "transports": {"docker": 3}}', "must be an object"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, document: str, complaint: str) -> None:
    (tmp_path / "policy.json").write_text(document)
    with pytest.raises(InvalidArgumentError, match=complaint):
        read_policy(tmp_path / "policy.json", required=True)
