"""The host's devices that the configuration or an annotation names, as they are now."""

from collections.abc import Iterable

from crid.errors import InvalidArgumentError
from crid.linux.devices import device_at
from crid.model.device import Device
from crid.oci.spec.policy import AskedDevice


def present(asked: Iterable[AskedDevice]) -> tuple[tuple[AskedDevice, Device], ...]:
    """Return each with what it names. Raises InvalidArgumentError naming the path of one that is not there, or no device."""
    found = []
    for each in asked:
        try:
            found.append((each, device_at(each.host_path)))
        except OSError as error:
            raise InvalidArgumentError(f"{each.host_path}: {error.strerror}") from error
    return tuple(found)
