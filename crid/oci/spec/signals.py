"""Signals by name and number: what StopContainer sends, as named by the CRI, by images and by people.

Three vocabularies meet here. The CRI's `Signal` enum is ordered by the alphabet, so its values are not signal numbers.
An image's `StopSignal` (OCI image-spec, config.md) is a name or a number in a string. Linux knows several names for one
number, and the real-time signals, whose names count from both ends of their range. Inside crid a signal is its canonical
name, which the enum can always express.

Numbers are those of signal(7) for x86 and ARM; C libraries keep 32 and 33 for themselves.
"""

import re

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError

DEFAULT = "SIGTERM"
RTMIN = 34
RTMAX = 64

_NUMBERED = """
SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM SIGSTKFLT
SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS
"""
_ALIASES = {"SIGIOT": "SIGABRT", "SIGCLD": "SIGCHLD", "SIGPOLL": "SIGIO", "SIGUNUSED": "SIGSYS"}


def _real_time(value: int) -> str:
    """Name a real-time signal from the nearer end of the range, as kill -l does."""
    if value in (RTMIN, RTMAX):
        return "SIGRTMIN" if value == RTMIN else "SIGRTMAX"
    return f"SIGRTMIN+{value - RTMIN}" if value <= RTMIN + 15 else f"SIGRTMAX-{RTMAX - value}"


_NAMES = dict(enumerate(_NUMBERED.split(), 1)) | {value: _real_time(value) for value in range(RTMIN, RTMAX + 1)}
_NUMBERS = {name: value for value, name in _NAMES.items()}
_REAL_TIME = re.compile(r"SIGRT(?:MIN\+([0-9]{1,2})|MAX-([0-9]{1,2}))")


def parse(text: str) -> str:
    """Return the canonical name for `text`: a name with or without SIG, in any case, or a decimal number.

    Raises InvalidArgumentError if it names no signal.
    """
    stripped = text.strip()
    decimal = re.fullmatch(r"[0-9]{1,3}", stripped)
    name = _NAMES.get(int(stripped)) if decimal else _canonical(stripped.upper())
    if name is None:
        raise InvalidArgumentError(f"unknown signal {text[:32]!r}")
    return name


def number(name: str) -> int:
    """Return the number of the signal that `name` means, in any form that `parse` takes."""
    return _NUMBERS[parse(name)]


def from_cri(value: "cri.Signal.ValueType") -> str:
    """Return the canonical name for a value of the CRI's enum. Raises InvalidArgumentError for values it does not have."""
    if value not in cri.Signal.values():
        raise InvalidArgumentError(f"stop_signal: the CRI has no signal {value}")
    name = cri.Signal.Name(value).removeprefix("SIGNAL_")
    return parse(name.replace("PLUS", "+").replace("MINUS", "-"))


def to_cri(name: str) -> "cri.Signal.ValueType":
    """Return the CRI's enum value for a signal's name, for ContainerStatus.stop_signal."""
    spelled = parse(name).replace("+", "PLUS").replace("-", "MINUS")
    return cri.Signal.Value(f"SIGNAL_{spelled}")


def stop_signal(config: cri.ContainerConfig, image: str) -> tuple[str, str]:
    """Return the signal to stop a container with, and a warning or "".

    The config decides, then the image's `StopSignal`, then SIGTERM. An image that names no known signal is worth a
    warning, not a failure: its author is not the one who runs it.
    """
    if config.stop_signal != cri.SIGNAL_RUNTIME_DEFAULT:
        return from_cri(config.stop_signal), ""
    if not image:
        return DEFAULT, ""
    try:
        return parse(image), ""
    except InvalidArgumentError as error:
        return DEFAULT, f"the image's stop signal: {error}; {DEFAULT} is used"


def _canonical(name: str) -> str | None:
    """Return the canonical form of an upper-case name, None if there is no such signal."""
    if not name.startswith("SIG"):
        name = f"SIG{name}"
    name = _ALIASES.get(name, name)
    if name in _NUMBERS:
        return name
    match = _REAL_TIME.fullmatch(name)
    if match is None:
        return None
    above, below = match.groups()
    value = RTMIN + int(above) if above is not None else RTMAX - int(below)
    return _NAMES[value] if RTMIN <= value <= RTMAX else None
