"""The house's order, checked: where tests are, how long files are, and what no file may hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "crid"
UNIT = ROOT / "tests" / "unit"

ELSEWHERE = {
    # The whole program, which unit tests would only imitate.
    "__main__.py": "tests/integration/e2e",
    "assembly/places.py": "tests/integration/e2e/test_check.py",
    "assembly/programs.py": "tests/integration/e2e/test_handlers.py",
    "assembly/providers.py": "tests/integration/e2e",
    "assembly/resources.py": "tests/integration/e2e/test_tuning.py",
    "cli.py": "tests/integration/e2e",
    "cli_check.py": "tests/integration/e2e/test_check.py",
    "cli_images.py": "tests/integration/image/test_cli.py",
    "daemon.py": "tests/integration/e2e",
    "tls.py": "tests/integration/streaming/test_tls.py",
    # Tables of the configuration file, read together.
    "config/": "tests/unit/config/test_file.py",
    # Interfaces and their fakes: one suite for all implementations.
    "linux/fake_resctrl.py": "tests/contract/test_resctrl_contract.py",
    "linux/kernel.py": "tests/contract/test_linux_contract.py",
    "linux/resctrl.py": "tests/contract/test_resctrl_contract.py",
    "net/fake.py": "tests/contract/test_network_contract.py",
    "net/plugin.py": "tests/contract/test_network_contract.py",
    "oci/fake.py": "tests/contract/test_runtime_contract.py",
    "oci/runtime.py": "tests/contract/test_runtime_contract.py",
    # What is nothing without the kernel, systemd, conmon and an OCI runtime.
    "cgroup/systemd.py": "tests/integration/e2e/test_slices.py",
    "lifecycle/slices.py": "tests/integration/e2e/test_slices.py",
    "linux/detached.py": "tests/integration/linux/test_user_namespace.py",
    "linux/pid_namespace.py": "tests/integration/linux/test_pid_namespace.py",
    "linux/user_namespace.py": "tests/integration/linux/test_user_namespace.py",
    "net/choice.py": "tests/integration/net/test_choice.py",
    "net/cni_network.py": "tests/integration/net/test_cni.py",
    "net/inventory.py": "tests/integration/e2e/test_check.py",
    "net/links.py": "tests/integration/net",
    "net/messages.py": "tests/unit/net/test_rtnetlink.py",
    "net/table.py": "tests/integration/net/test_hostports.py",
    "oci/attach.py": "tests/integration/oci/test_attach.py",
    "oci/spec/document.py": "tests/unit/oci/spec/test_cdi.py",
    "linux/seccomp_listener.py": "tests/integration/e2e/test_seccomp_notifier.py",
    "lifecycle/seccomp_notifier.py": "tests/integration/e2e/test_seccomp_notifier.py",
    "oci/checkpoint.py": "tests/contract/test_runtime_contract.py",
    "oci/control.py": "tests/integration/oci/test_attach.py",
    "oci/exec_stream.py": "tests/integration/oci/test_exec.py",
    "oci/executions.py": "tests/integration/oci/test_exec.py",
    "oci/port_forward.py": "tests/contract/test_runtime_contract.py",
    "oci/runtime_oci.py": "tests/integration/oci/test_lifecycle.py",
    "oci/stop.py": "tests/integration/oci/test_lifecycle.py",
    "oci/userns_probe.py": "tests/integration/linux/test_user_namespace.py",
    # RPCs are tested together, over a socket.
    "server/containers.py": "tests/unit/server/test_runtime.py",
    "server/images.py": "tests/unit/server/test_runtime.py",
    "server/metrics.py": "tests/integration/e2e/test_metrics.py",
    "server/node.py": "tests/unit/server/test_runtime.py",
    "server/refusals.py": "tests/unit/server/test_runtime.py",
    "server/sandboxes.py": "tests/unit/server/test_runtime.py",
    "server/statistics.py": "tests/unit/server/test_runtime.py",
    "server/streams.py": "tests/unit/server/test_runtime.py",
    # Records of layers, by the stores that write and check them.
    "store/layer_records.py": "tests/unit/store/test_layers.py",
    # Parts of a pull and an import.
    "image/archive.py": "tests/unit/image/test_importer.py",
    "image/ingest.py": "tests/unit/image/test_pull.py",
    "image/recording.py": "tests/unit/image/test_pull.py",
    "image/limits.py": "tests/unit/image/test_interruptions.py",
    "image/registries_file.py": "tests/unit/image/test_registries.py",
    "image/garbage.py": "tests/unit/image/test_service.py",
    "image/registry_client.py": "tests/unit/image/test_transport.py",
    "image/certificates.py": "tests/unit/image/test_sigstore.py",
    "image/rekor.py": "tests/unit/image/test_sigstore.py",
    "image/signatures.py": "tests/unit/image/test_policy.py",
    # What is nothing without sockets, clients and containers.
    "lifecycle/metrics_table.py": "tests/unit/lifecycle/test_metrics.py",
    "lifecycle/seccomp_artifact.py": "tests/integration/e2e/test_artifacts.py",
    "lifecycle/streams.py": "tests/integration/streaming/test_requests.py",
    "metrics/facts.py": "tests/integration/e2e/test_daemon_metrics.py",
    "streaming/command.py": "tests/integration/streaming/test_exec.py",
    "streaming/link.py": "tests/integration/streaming/test_exec.py",
    "streaming/outflow.py": "tests/integration/streaming/test_exec.py",
    "streaming/server.py": "tests/integration/streaming/test_requests.py",
    # Plugins, over a socket.
    "lifecycle/hooks.py": "tests/unit/lifecycle/test_nri_hooks.py",
    "lifecycle/nri_messages.py": "tests/unit/lifecycle/test_nri_hooks.py",
    "nri/connection.py": "tests/unit/nri/test_plugins.py",
    "nri/describe.py": "tests/unit/nri/test_adjust.py",
    "nri/owners.py": "tests/unit/nri/test_adjust.py",
    "nri/plugin.py": "tests/unit/nri/test_plugins.py",
    # Protocols, as scripts of bytes and events.
    "wire/": "tests/wire",
}
"""Sources without a test file of their name, or directories that have such sources, and the tests that cover them."""

DATA = {
    "lifecycle/check/facts.py",
    "lifecycle/parts.py",
    "model/device.py",
    "model/image.py",
    "model/mount.py",
    "model/process.py",
    "model/rdt.py",
    "model/tracked.py",
    "oci/placement.py",
    "oci/spec/inputs.py",
    "oci/spec/tuning_policy.py",
    "server/typing.py",
}
"""Declarations only: no function in them does more than a line of work."""

NOT_OF_ONE_MODULE = {
    "test_layout.py",
    "config/test_sample.py",  # etc/crid.conf
    "image/test_interruptions.py",  # whole pulls
    "cri/test_rpcs_doc.py",  # docs/rpcs.md
    "cri/test_wire.py",  # protos/
}
"""Test files that mirror no source."""

SUFFIXES = (".py", ".c", ".h", ".sh")
MAXIMUM_LINES = 400
SUPPRESSION = re.compile(r"# ?(?:type: ignore|noqa|pragma: no cover|shellcheck disable=)[^#\n]*(?P<reason># \w)?")
MARKS = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def is_generated(path: Path) -> bool:
    return "_pb2" in path.name


def is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return not path.suffix and file.read(2) == b"#!"


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if not is_generated(path))
SOURCES = {path.relative_to(PACKAGE).as_posix() for path in MODULES if path.name != "__init__.py"}


def hand_written(*directories: str) -> list[Path]:
    """The sources and shell scripts below these directories."""
    found = (path for directory in directories for path in (ROOT / directory).rglob("*") if path.is_file())
    return sorted(path for path in found if (path.suffix in SUFFIXES or is_script(path)) and not is_generated(path))


HAND_WRITTEN = hand_written("crid", "conmon", "scripts")


def mirror(source: str) -> Path:
    """The test file of a source's name."""
    path = Path(source)
    return UNIT / path.parent / f"test_{path.name}"


def excused(source: str) -> bool:
    listed = {*ELSEWHERE, *DATA}
    return source in listed or any(f"{parent}/" in listed for parent in Path(source).parents)


def test_every_source_has_a_test_of_its_name_or_is_listed() -> None:
    assert [source for source in sorted(SOURCES) if not mirror(source).exists() and not excused(source)] == []


def test_every_test_has_a_source_of_its_name_or_is_listed() -> None:
    tests = {path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")}
    strays = {path.as_posix() for path in tests if (path.parent / path.name.removeprefix("test_")).as_posix() not in SOURCES}
    assert strays == NOT_OF_ONE_MODULE


def test_no_exception_is_stale() -> None:
    """A source that is gone, or has a test of its name by now, is to be struck off; what covers another must exist."""
    stale = []
    for entry in [*ELSEWHERE, *DATA]:
        if entry.endswith("/"):
            needed = any(source.startswith(entry) and not mirror(source).exists() for source in SOURCES)
        else:
            needed = entry in SOURCES and not mirror(entry).exists()
        if not needed:
            stale.append(entry)
    assert stale == []
    assert len({*ELSEWHERE, *DATA}) == len(ELSEWHERE) + len(DATA)
    for covered, tests in ELSEWHERE.items():
        path = ROOT / tests
        assert path.is_file() or any(path.glob("test_*.py")), f"{covered}: there is no {tests}"


@pytest.mark.parametrize("source", sorted(DATA))
def test_data_does_nothing(source: str) -> None:
    """No branch and no loop."""
    tree = ast.parse((PACKAGE / source).read_text())
    branching = (ast.For, ast.While, ast.Try, ast.With, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(tree) if isinstance(node, branching)]


def test_no_file_is_too_long() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in HAND_WRITTEN}
    assert {path: lines for path, lines in long.items() if lines > MAXIMUM_LINES} == {}


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in MODULES if (tree := ast.parse(path.read_text())).body and not ast.get_docstring(tree)]
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    marked = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in HAND_WRITTEN
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if MARKS.search(line)
    ]
    assert marked == []


def test_what_is_hidden_from_a_check_says_why() -> None:
    """As in `# noqa: RULE  # reason`, on the same line, for the checks of types, style and shell."""
    mute = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in hand_written("crid", "conmon", "scripts", "tests")
        for found in SUPPRESSION.finditer(path.read_text())
        if not found["reason"]
    ]
    assert mute == []


def test_no_two_test_files_are_one_module() -> None:
    """By pytest's rule (`--import-mode=importlib`) a file's name begins at the topmost of the packages around it: with another
    of that name only the first would be run, twice."""
    names: dict[str, Path] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        top = path.parent
        while (top / "__init__.py").exists():
            top = top.parent
        name = ".".join(path.relative_to(top if top != path.parent else ROOT).with_suffix("").parts)
        assert name not in names, f"{path} and {names[name]} are both {name}"
        names[name] = path
