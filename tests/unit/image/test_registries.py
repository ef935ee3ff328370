from pathlib import Path

import pytest

from crid.errors import InvalidArgumentError, PermissionDeniedError
from crid.image.references import parse
from crid.image.registries import Endpoint, Registries
from crid.image.registries_file import load

DIGEST = "sha256:" + "ab" * 32


def configured(tmp_path: Path, text: str, **drop_ins: str) -> Registries:
    path = tmp_path / "registries.conf"
    path.write_text(text)
    (tmp_path / "registries.conf.d").mkdir(exist_ok=True)
    for name, content in drop_ins.items():
        (tmp_path / "registries.conf.d" / f"{name}.conf").write_text(content)
    return load(path, tmp_path / "aliases.conf")


def places(registries: Registries, name: str) -> list[str]:
    return [str(endpoint.reference) for endpoint in registries.endpoints(parse(name))]


def test_no_file_means_the_registry_itself(tmp_path: Path) -> None:
    registries = load(tmp_path / "registries.conf", tmp_path / "aliases.conf")
    assert registries.endpoints(parse("q.io/a:b")) == [Endpoint(parse("q.io/a:b"))]


def test_the_location_replaces_the_prefix(tmp_path: Path) -> None:
    registries = configured(tmp_path, '[[registry]]\nprefix = "q.io/a"\nlocation = "127.0.0.1:5000/q/a"\ninsecure = true\n')
    assert registries.endpoints(parse("q.io/a/b:c")) == [Endpoint(parse("127.0.0.1:5000/q/a/b:c"), insecure=True)]
    assert places(registries, f"q.io/a/b@{DIGEST}") == [f"127.0.0.1:5000/q/a/b@{DIGEST}"]
    assert places(registries, "q.io/ab:c") == ["q.io/ab:c"]  # a prefix ends at a slash, a colon or an at sign


def test_the_longest_prefix_wins_and_a_wildcard_comes_last(tmp_path: Path) -> None:
    text = """
        [[registry]]
        prefix = "*.example.com"
        location = "wild.io"
        [[registry]]
        location = "q.example.com"
        [[registry]]
        prefix = "q.example.com/a"
        location = "deep.io"
        """
    registries = configured(tmp_path, text)
    assert places(registries, "q.example.com/a/b:c") == ["deep.io/b:c"]
    assert places(registries, "q.example.com/x:c") == ["q.example.com/x:c"]
    assert places(registries, "r.s.example.com/x:c") == ["wild.io/x:c"]
    assert places(registries, "example.com/x:c") == ["example.com/x:c"]


def test_mirrors_come_first_and_in_order(tmp_path: Path) -> None:
    text = """
        [[registry]]
        location = "q.io"
        [[registry.mirror]]
        location = "m1.io/q"
        insecure = true
        [[registry.mirror]]
        location = "m2.io"
        pull-from-mirror = "digest-only"
        """
    registries = configured(tmp_path, text)
    assert registries.endpoints(parse("q.io/a:b")) == [
        Endpoint(parse("m1.io/q/a:b"), insecure=True, mirror=True),
        Endpoint(parse("q.io/a:b")),
    ]
    assert places(registries, f"q.io/a@{DIGEST}") == [f"m1.io/q/a@{DIGEST}", f"m2.io/a@{DIGEST}", f"q.io/a@{DIGEST}"]


def test_a_blocked_registry(tmp_path: Path) -> None:
    registries = configured(tmp_path, '[[registry]]\nlocation = "q.io"\nblocked = true\n')
    with pytest.raises(PermissionDeniedError, match=r"q\.io/a:b.*blocks q\.io"):
        registries.endpoints(parse("q.io/a:b"))


def test_drop_ins_replace_tables_of_the_same_prefix(tmp_path: Path) -> None:
    first = '[[registry]]\nlocation = "q.io"\nblocked = true\n'
    registries = configured(tmp_path, first, b='[[registry]]\nlocation = "q.io"\n', a='[[registry]]\nlocation = "r.io"\n')
    assert places(registries, "q.io/a:b") == ["q.io/a:b"]
    assert [registry.prefix for registry in registries.registries] == ["q.io", "r.io"]


def test_short_names(tmp_path: Path) -> None:
    text = 'unqualified-search-registries = ["q.io", "docker.io"]\n[aliases]\n"tool" = "r.io/tools/tool"\n'
    registries = configured(tmp_path, text)
    assert [str(name) for name in registries.candidates("busybox:1")] == ["q.io/busybox:1", "docker.io/library/busybox:1"]
    assert [str(name) for name in registries.candidates("tool:2")] == ["r.io/tools/tool:2"]
    assert [str(name) for name in registries.candidates("r.io/x")] == ["r.io/x:latest"]
    assert [str(name) for name in Registries().candidates("busybox")] == ["docker.io/library/busybox:latest"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[registry]]\n", "needs `prefix` or `location`"),
        ('[[registry]]\nlocation = "q.io"\nlocatoin = "x"\n', "locatoin"),
        ('[[registry]]\nlocation = 3\n', "location: must be of type str"),
        ('[[registry]]\nlocation = "http://q.io"\n', "not a URL"),
        ('[registries.search]\nregistries = ["x"]\n', "version 2"),
        ('registry = 1\n', "registry: must be of type list"),
        ('[[registry]]\nlocation = "q.io"\n[[registry.mirror]]\n', "needs `location`"),
        ('[[registry]]\nlocation="q.io"\n[[registry.mirror]]\nlocation="m"\npull-from-mirror="x"\n', "pull-from-mirror"),
        ("= 3", "registries.conf"),
        ('short-name-mode = "often"\n', "short-name-mode: must be one of"),
        ('unqualified-search-registries = [3]\n', "must hold strings"),
        ('[[registry]]\nprefix = "a.*.io"\nlocation = "b"\n', "wildcard"),
        ('[[registry]]\nlocation="q"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation="m"\npull-from-mirror="all"\n',
         "contradicts"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        configured(tmp_path, text)


def test_a_cache_of_aliases_wins_and_an_empty_alias_takes_one_away(tmp_path: Path) -> None:
    (tmp_path / "aliases.conf").write_text('[aliases]\n"tool" = "new.io/tool"\n"gone" = ""\n')
    registries = configured(tmp_path, '[aliases]\n"tool" = "old.io/tool"\n"gone" = "r.io/gone"\n')
    assert [str(name) for name in registries.candidates("tool")] == ["new.io/tool:latest"]
    assert [str(name) for name in registries.candidates("gone")] == ["docker.io/library/gone:latest"]


def test_enforcing_refuses_an_ambiguous_short_name(tmp_path: Path) -> None:
    text = 'short-name-mode = "enforcing"\nunqualified-search-registries = ["q.io", "r.io"]\n'
    with pytest.raises(InvalidArgumentError, match=r"enforcing, and any of q\.io, r\.io"):
        configured(tmp_path, text).candidates("tool")
    with pytest.raises(InvalidArgumentError, match="no search registries"):
        configured(tmp_path, "unqualified-search-registries = []\n").candidates("tool")


def test_mirrors_by_digest_only_and_tag_only(tmp_path: Path) -> None:
    text = """
        [[registry]]
        location = "q.io"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.io"
        [[registry]]
        location = "r.io"
        [[registry.mirror]]
        location = "n.io"
        pull-from-mirror = "tag-only"
        """
    registries = configured(tmp_path, text)
    assert places(registries, "q.io/a:b") == ["q.io/a:b"]
    assert places(registries, f"q.io/a@{DIGEST}") == [f"m.io/a@{DIGEST}", f"q.io/a@{DIGEST}"]
    assert places(registries, "r.io/a:b") == ["n.io/a:b", "r.io/a:b"]
    assert places(registries, f"r.io/a@{DIGEST}") == [f"r.io/a@{DIGEST}"]
