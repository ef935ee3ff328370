import json
from pathlib import Path

from crid.oci.hooks import HookDirectories


def write(path: Path, program: str = "/bin/true", **when: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": "1.0.0", "hook": {"path": program}, "when": when, "stages": ["prestart"]}))


def test_a_later_directory_replaces_files_by_name_and_names_give_the_order(tmp_path: Path) -> None:
    package, admin = tmp_path / "usr", tmp_path / "etc"
    hooks = HookDirectories([str(package), str(admin)])
    assert hooks.get() == ()
    write(package / "20-b.json", "/bin/sh", always=True)
    write(package / "10-a.json", "/bin/true", always=True)
    assert [each.hook["path"] for each in hooks.get()] == ["/bin/true", "/bin/sh"]
    write(admin / "10-a.json", "/bin/false", always=False)
    assert [(each.hook["path"], each.always) for each in hooks.get()] == [("/bin/false", False), ("/bin/sh", True)]


def test_a_hook_without_its_program_does_not_count_and_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.json", str(tmp_path / "missing"), always=True)
    hooks = HookDirectories([str(tmp_path)])
    assert hooks.get() == ()
    report = hooks.report()
    assert report["hooks"] == []
    assert "is not a program" in report["errors"][str(tmp_path / "a.json")]  # type: ignore[index]  # JSON
    assert json.dumps(report)
