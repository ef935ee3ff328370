import pytest

from crid.errors import InvalidArgumentError
from crid.oci.spec.absolute import require


@pytest.mark.parametrize("path", ["/", "/a b\n/../c", f"/{'n' * 255}", "/a" * 2047])
def test_what_a_kernel_takes(path: str) -> None:
    assert require(path, "field") == path


@pytest.mark.parametrize("path", ["", "a", "./a", "/a\0b", f"/{'n' * 256}", f"/{'é' * 128}", "/a" * 2048])
def test_what_it_does_not(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^mounts\[3\]\.host_path: "):
        require(path, "mounts[3].host_path")
