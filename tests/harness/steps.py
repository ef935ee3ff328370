"""The daemon's steps (`crid.trace`), found in its source: every name is a literal."""

import ast
import os
from pathlib import Path

import crid

SOURCES = sorted(path for path in Path(crid.__file__).parent.rglob("*.py") if "_pb2" not in path.name)


def found() -> list[str]:
    """Return the names of all steps, `subject: doing`, in the order of files and lines."""
    return [name for path in SOURCES for name in _in_file(path)]


def _in_file(path: Path) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [name for call in sorted(calls, key=lambda call: call.lineno) if (name := _name(call, path))]


def _name(call: ast.Call, path: Path) -> str:
    match call.func:
        case ast.Attribute(value=ast.Name(id="trace"), attr="step"):
            words = call.args
        case ast.Attribute(value=ast.Name(id="rollback"), attr="undo"):
            words = [ast.Constant("undo"), call.args[0]]
        case _:
            return ""
    texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if len(texts) != 2:
        if path.name == "tasks.py":
            return ""  # Rollback itself, which is given its names
        raise AssertionError(f"{path}:{call.lineno}: a step's name is not a literal")
    return f"{texts[0]}: {texts[1]}"


def wait_stopped(pid: int) -> int:
    """Wait until the child `pid` is stopped, and return the signal that did it."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    return os.WSTOPSIG(status)


def table() -> str:
    """Return the rows of the table of steps in docs/reliability.md."""
    root = Path(crid.__file__).parent
    rows = [f"| `{name}` | `{path.relative_to(root)}` |" for path in SOURCES for name in _in_file(path)]
    return "\n".join(sorted(rows)) + "\n"


if __name__ == "__main__":
    print(table(), end="")
