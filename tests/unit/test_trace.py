"""Steps: what they tell, what tests can have happen at them, and that each stands once in the code and in the manual."""

import ast
import asyncio
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from crid import trace
from crid.errors import UnavailableError
from crid.tasks import Supervisor
from tests.harness import steps

ROOT = Path(__file__).parents[2]


async def test_an_operation_knows_its_step_and_those_of_the_tasks_and_threads_it_starts() -> None:
    supervisor, seen = Supervisor("t"), []

    async def part() -> None:
        trace.step("test", "a part")

    async def work() -> None:
        operation = trace.current()
        assert operation is not None
        seen.append((operation.name, operation.step))
        trace.step("test", "the work")
        seen.append((operation.name, operation.step))
        async with asyncio.TaskGroup() as group:
            group.create_task(part())
        seen.append((operation.name, operation.step))
        await asyncio.to_thread(trace.step, "test", "a thread")
        seen.append((operation.name, operation.step))
        await supervisor.run(part(), "another")
        seen.append((operation.name, operation.step))

    await supervisor.run(work(), "some work")
    assert seen == [("some work", step) for step in ("starting", "the work", "a part", "a thread", "a thread")]
    trace.step("test", "outside of any")
    assert trace.current() is None


def test_a_step_fails_the_time_it_was_told_to_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_traps", trace.armed({"CRID_TRACE_FAIL": "test: this one@2"}))
    trace.step("test", "this one")
    trace.step("test", "another")
    with pytest.raises(UnavailableError, match=r"^test: this one: "):
        trace.step("test", "this one")
    trace.step("test", "this one")


@pytest.mark.parametrize(("variable", "number"), [("CRID_TRACE_KILL", signal.SIGKILL), ("CRID_TRACE_STALL", signal.SIGSTOP)])
def test_a_step_ends_or_freezes_its_process(variable: str, number: signal.Signals) -> None:
    program = "from crid import trace; trace.step('test', 'here'); print('after', flush=True); trace.step('test', 'here')"
    environment = {variable: "test: here@2"}
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "after\n"
        if number == signal.SIGSTOP:
            status = steps.wait_stopped(child.pid)
            assert status == signal.SIGSTOP
            child.send_signal(signal.SIGCONT)
            assert child.wait(30) == 0
        else:
            assert child.wait(30) == -number


def test_nothing_is_armed_unless_somebody_asks() -> None:
    assert trace.armed({"PATH": "/bin", "CRID_TRACE_KILL": ""}) == []
    with pytest.raises(ValueError, match="often"):
        trace.armed({"CRID_TRACE_KILL": "pod: here@often"})


def test_names_are_literals_and_no_two_are_alike() -> None:
    """`step("pod", ...)` in a loop is one step; the same name in two places would be two that nobody can tell apart."""
    found = steps.found()
    assert len(found) > 60
    assert [name for name, times in Counter(found).items() if times > 1] == []


def test_the_manual_lists_them_all() -> None:
    table = (ROOT / "docs" / "reliability.md").read_text().partition("## Steps")[2]
    assert sorted(re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)) == sorted(steps.found())


def test_no_step_is_made_any_other_way() -> None:
    """Whoever imports `step` or `undo` by another name would be overlooked by `steps.found`."""
    for path in steps.SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "crid.trace":
                raise AssertionError(f"{path}: import crid.trace as a module")
