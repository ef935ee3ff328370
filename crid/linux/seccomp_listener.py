"""A seccomp listener: the calls that a filter asks about are read from it and answered, seccomp_unotify(2)."""

import contextlib
import errno
import fcntl
import select
import struct
from dataclasses import dataclass

RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV: _IOWR('!', 0, struct seccomp_notif)
SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND: _IOWR('!', 1, struct seccomp_notif_resp)

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, call, architecture, instruction pointer, arguments
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call that waits for an answer."""

    id: int
    pid: int
    """0 if the process is in no PID namespace that is seen from here."""
    architecture: int
    """AUDIT_ARCH_..., linux/audit.h."""
    number: int


def gone(descriptor: int) -> bool:
    """Whether nobody uses the filter any more: nothing will come."""
    return bool(_ready(descriptor) & select.POLLHUP)


def receive(descriptor: int) -> AskedCall | None:
    """Return a call that waits for an answer, None if there is none (any more). Does not block. Raises OSError."""
    if not _ready(descriptor) & select.POLLIN:
        return None
    buffer = bytearray(_NOTIFICATION.size)  # must be zero
    try:
        fcntl.ioctl(descriptor, RECEIVE, buffer, True)
    except OSError as error:
        if error.errno == errno.ENOENT:  # its process was killed meanwhile
            return None
        raise
    identifier, pid, _, number, architecture, *_ = _NOTIFICATION.unpack(buffer)
    return AskedCall(identifier, pid, architecture, number)


def refuse(descriptor: int, call: AskedCall, number: int) -> None:
    """Let `call` fail with the error `number`; one whose process is gone is no error. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(descriptor, SEND, _RESPONSE.pack(call.id, 0, -number, 0))


def _ready(descriptor: int) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return dict(poll.poll(0)).get(descriptor, 0)
