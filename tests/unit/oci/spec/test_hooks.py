from typing import Any

import pytest

from crid.errors import InvalidArgumentError
from crid.oci.spec.hooks import edits, parse


def document(when: object, **more: Any) -> dict[str, Any]:
    return {"version": "1.0.0", "hook": {"path": "/bin/x", "args": ["x", "y"]}, "when": when, "stages": ["prestart"], **more}


ANNOTATIONS = {"com.example.a": "yes", "b": "no"}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({"always": True}, True),
        ({"always": False}, False),
        ({}, False),
        ({"annotations": {r"^com\.example\.": "^yes$"}}, True),
        ({"annotations": {r"^com\.example\.": "^no$"}}, False),
        ({"annotations": {"": "no"}}, True),
        ({"annotations": {"a$": "yes", "^c$": ""}}, False),
        ({"commands": ["^/bin/other$", "sh$"]}, True),
        ({"commands": ["^sh$"]}, False),
        ({"hasBindMounts": True}, True),
        ({"hasBindMounts": False}, False),
        ({"always": True, "commands": ["^nothing$"]}, False),
        ({"always": False, "hasBindMounts": True}, False),
        ({"hasBindMounts": True, "annotations": {"^b$": "no"}, "commands": ["sh"]}, True),
    ],
)
def test_every_condition_must_hold(when: dict[str, Any], expected: bool) -> None:
    assert parse(document(when)).applies(ANNOTATIONS, "/bin/sh", bind_mounts=True) is expected


def test_without_bind_mounts() -> None:
    assert not parse(document({"hasBindMounts": True})).applies({}, "/bin/sh", bind_mounts=False)


def test_each_stage_gets_the_hook() -> None:
    first = parse(document({"always": True}, stages=["prestart", "poststop"]))
    found = edits([first, parse(document({"always": False}))], {}, "x", bind_mounts=False)
    hook = {"path": "/bin/x", "args": ["x", "y"]}
    assert found.hooks == (("prestart", hook), ("poststop", hook))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "the document: must be a table"),
        (document({"always": True}, version="0.1.0"), "version: must be 1.0.0"),
        (document({"always": "yes"}), "when.always: must be true or false"),
        (document({"annotations": {"[": ""}}), "when.annotations: "),
        (document({"annotations": {"a": "["}}), r"when.annotations\['a'\]: "),
        (document({"commands": ["["]}), r"when.commands\[0\]: "),
        (document({"or": True}), "unknown key 'or'"),
        (document({"always": True}, stages=[]), "stages: "),
        (document({"always": True}, stages=["later"]), "stages: "),
        (document({"always": True}, hook={"path": "x"}), "hook.path: 'x' is not an absolute path"),
        (document({"always": True}, hook={"path": "/x", "timeout": -1}), "hook.timeout"),
        (document(None), "when: must be a table"),
    ],
)
def test_what_cannot_be_meant(content: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse(content)
