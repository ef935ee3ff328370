"""Build steps that pyproject.toml cannot say: generate the protobuf code and compile conmon.

An ordinary build puts them into the package (`crid/cri`; `conmon`, `crid-pause` and `crid-userns` in `crid/libexec`); an
editable one puts them into the tree (`crid/cri`, `conmon/`), where git ignores them.
"""

import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
PROTOS = ROOT / "protos"


def generate_protos(destination: Path) -> None:
    """Compile every .proto file below `protos/` into Python modules and typed stubs below `destination`."""
    plugins = Path(sys.executable).parent
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}"]
    command += [f"--{kind}_out={destination}" for kind in ("python", "grpc_python")]
    for kind in ("mypy", "mypy_grpc"):
        plugin = plugins / f"protoc-gen-{kind}"
        if plugin.exists():  # only type checkers need the stubs
            command += [f"--plugin=protoc-gen-{kind}={plugin}", f"--{kind}_out=quiet:{destination}"]
    subprocess.run([*command, *files], check=True)


def compile_conmon(output: Path) -> None:
    """Compile the monitor with the C compiler that $CC names (default `cc`) to the file `output`, crid-pause and
    crid-userns beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["sh", str(ROOT / "conmon" / "build.sh"), "-o", str(output)], check=True)


class BuildWithGenerated(build_py):
    """`build_py` that adds the generated modules and the monitor."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            generate_protos(ROOT)
            compile_conmon(ROOT / "conmon" / "conmon")
        else:
            library = Path(self.build_lib)
            library.mkdir(parents=True, exist_ok=True)
            generate_protos(library)
            compile_conmon(library / "crid" / "libexec" / "conmon")


class BinaryDistribution(Distribution):
    """A wheel that holds a compiled program belongs to one platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithGenerated}, distclass=BinaryDistribution)
