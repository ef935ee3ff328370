"""ExecSync where the machine has no more of something; what it does otherwise is tested with conmon and the runtimes."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crid.linux.process import identify
from crid.model.container import ContainerStatus
from crid.oci.exec_sync import ExecSync
from crid.oci.executions import Executions
from crid.oci.placement import WithDaemon
from crid.oci.process_spec import ProcessSpecs
from crid.oci.program import RuntimeCommand, RuntimeProgram
from crid.tasks import Supervisor
from tests.harness.tools import open_descriptors
from tests.unit.oci.test_exits import a_container


class InContainer(WithDaemon):
    exec_in_container = True


def fail_after(monkeypatch: pytest.MonkeyPatch, successes: int) -> list[str]:
    """Let so many memory files and pipes be made, then none; return the list in which each refusal is noted."""
    refused: list[str] = []
    left = iter(range(successes))

    def limited(make: Callable[..., Any]) -> Callable[..., Any]:
        def limited_make(*arguments: Any) -> Any:
            if next(left, None) is None:
                refused.append(make.__name__)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return make(*arguments)

        return limited_make

    for name in ("memfd_create", "pipe2"):
        monkeypatch.setattr(os, name, limited(getattr(os, name)))
    return refused


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as context:
        yield context


@pytest.mark.parametrize("successes", range(5))
async def test_without_descriptors_none_is_left_open(tmp_path: Path, patch: pytest.MonkeyPatch, successes: int) -> None:
    container = a_container(tmp_path, "a" * 64)
    container.publish(ContainerStatus(process=identify(os.getpid())))
    container.metadata.bundle.mkdir()
    (container.metadata.bundle / "config.json").write_text(json.dumps({"process": {}, "linux": {"namespaces": []}}))
    program = RuntimeProgram("crun", Path("/nowhere/crun"), tmp_path, Path("/nowhere/conmon"))
    exec_sync = ExecSync(RuntimeCommand(program, {}), ProcessSpecs(), Executions(), Supervisor("test"), InContainer())
    refused = fail_after(patch, successes)
    before = open_descriptors()
    with pytest.raises(OSError, match="Too many open files"):
        await exec_sync.run(container, ["true"], 1)
    assert len(refused) == 1
    assert open_descriptors() == before
