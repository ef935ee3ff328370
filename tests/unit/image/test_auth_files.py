import base64
import hashlib
import json
from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError, UnavailableError
from crid.image.auth import NONE, Credentials
from crid.image.auth_files import AuthFile, NodeCredentials, ask_helper, read_auth_file
from tests.harness.tools import PATIENCE

SOURCES = ["containers-auth.json"]


def basic(user: str, password: str = "s3cr3t-word") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def written(path: Path, auths: dict[str, object], **more: object) -> Path:
    path.write_text(json.dumps({"auths": auths, **more}))
    return path


def helper(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = directory / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_the_longest_key_counts(tmp_path: Path) -> None:
    keys = {"q.io": basic("host"), "q.io/a": basic("path"), "q.io/a/b": basic("repository"), "q.io:5000": basic("port")}
    found = read_auth_file(written(tmp_path / "auth.json", {**keys}))
    names = ["q.io/x", "q.io/a/c", "q.io/a/b", "q.io:5000/a/b", "q.io/ab", "r.io/a"]
    assert [found.find(name).username for name in names] == ["host", "path", "repository", "port", "host", ""]


def test_old_keys_are_urls_and_tokens_are_taken(tmp_path: Path) -> None:
    auths = {"https://index.docker.io/v1/": basic("docker"), "r.io": {"identitytoken": "s3cr3t-word"}, "s.io": {}}
    found = read_auth_file(written(tmp_path / "auth.json", {**auths}))
    assert found.find("docker.io/library/x").username == "docker"
    assert found.find("r.io/x").identity_token == "s3cr3t-word"
    assert not found.find("s.io/x")
    assert read_auth_file(tmp_path / "gone.json") == AuthFile()


@pytest.mark.parametrize(
    "content", ["[", "[]", '{"auths": 3}', '{"auths": {"q.io": {"auth": "s3cr3t-word"}}}', '{"auths": {"q.io": {"auth": 3}}}']
)
def test_a_malformed_file_is_named_and_not_quoted(tmp_path: Path, content: str) -> None:
    (tmp_path / "auth.json").write_text(content)
    with pytest.raises(InvalidArgumentError, match=r"auth\.json") as caught:
        read_auth_file(tmp_path / "auth.json")
    assert "s3cr3t-word" not in str(caught.value)


async def test_a_namespaces_file_is_for_one_pull(tmp_path: Path) -> None:
    name = hashlib.sha256(b"q.io/a").hexdigest()
    path = written(tmp_path / f"team-{name}.json", {"q.io": basic("namespace")})
    shared = written(tmp_path / "auth.json", {"q.io": basic("global")})
    node = NodeCredentials(str(shared), str(tmp_path))
    left = node.take_namespaced("team", "q.io/a")
    assert not path.exists()
    assert (await node.find("q.io/a", SOURCES, left)).username == "namespace"
    assert (await node.find("q.io/a", SOURCES, node.take_namespaced("team", "q.io/a"))).username == "global"
    assert node.take_namespaced("../x", "q.io/a") == AuthFile()
    assert await NodeCredentials().find("q.io/a", SOURCES, AuthFile()) == NONE


async def test_a_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, 'read server; echo "{\\"Username\\": \\"$1-$server\\", \\"Secret\\": \\"pw\\"}"')
    assert await ask_helper("test", "q.io") == Credentials("get-q.io", "pw")
    shared = written(tmp_path / "auth.json", {"q.io": basic("file")}, credHelpers={"r.io": "test"})
    node = NodeCredentials(str(shared))
    assert (await node.find("r.io/a", SOURCES, AuthFile())).username == "get-r.io"
    assert (await node.find("q.io/a", SOURCES, AuthFile())).username == "file"
    assert (await node.find("q.io/a", ["test", *SOURCES], AuthFile())).username == "get-q.io"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo s3cr3t-word; exit 3", "ended with 3"),
        ("echo s3cr3t-word", "printed no credentials"),
        ("head -c 1000000 /dev/zero; sleep 1000", "printed more than"),
        ("sleep 1000", "not done in time"),
    ],
)
async def test_a_helper_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str) -> None:
    monkeypatch.setattr("crid.image.auth_files.HELPER_SECONDS", 0.2 if "in time" in complaint else PATIENCE)
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(UnavailableError, match=complaint) as caught:
        await ask_helper("test", "q.io")
    assert "s3cr3t-word" not in str(caught.value)


async def test_a_helper_that_knows_nothing_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    assert await ask_helper("test", "q.io") == NONE
    for name in ("missing", "../test", ""):
        with pytest.raises(UnavailableError, match="not in PATH"):
            await ask_helper(name, "q.io")
