"""Overlays with more layers than a page of options can name.

fsopen(2) and its kin take options one at a time, and overlayfs takes lower directories one at a time as `lowerdir+`
since Linux 6.8 (kernel, filesystems/overlayfs). Older kernels get the layers as /proc/self/fd/N, short enough for some
two hundred in the page that mount(2) copies.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from crid.linux.libc import call, system_call

_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD = -100
_STRING_SIZE = 255
"""fsconfig(2) takes no longer string."""
_ATTRIBUTES = {  # mount(2)'s flag -> fsmount(2)'s MOUNT_ATTR_*
    1: 0x1,  # ro
    2: 0x2,  # nosuid
    4: 0x4,  # nodev
    8: 0x8,  # noexec
    256: 0x200000,  # nosymfollow
    1024: 0x10,  # noatime
    2048: 0x80,  # nodiratime
    1 << 24: 0x20,  # strictatime
}

_SEPARATOR = re.compile(r"(?<!\\)([:,])")
_ESCAPED = re.compile(r"\\(.)")


def mount_overlay(source: str, target: str, flags: int, data: str) -> None:
    """Mount an overlay whose `data` (mount(2)'s form: commas between options, colons between lower layers) is of any
    length. Raises OSError naming `target`, or the layer that is missing."""
    options = _parse(data)
    try:
        _mount_in_steps(source, target, flags, options)
    except OSError as error:
        # No such call before Linux 5.2, no such option before 6.8, a path too long for fsconfig, or a
        # seccomp filter that does not know these calls.
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        _mount_by_descriptors(source, target, flags, options)


def split_layers(lowerdir: str) -> list[str]:
    """Return the paths of a `lowerdir` value, without the backslashes that protect their colons and commas."""
    return [_unescaped(part) for part in re.split(r"(?<!\\):", lowerdir)]


def _parse(data: str) -> list[tuple[str, str | list[str] | None]]:
    """Return the options in order: a flag with None, `lowerdir` with its layers, any other with its value."""
    options: list[tuple[str, str | list[str] | None]] = []
    for word in re.split(r"(?<!\\),", data):
        key, equals, value = word.partition("=")
        if key == "lowerdir":
            options.append((key, split_layers(value)))
        else:
            options.append((key, _unescaped(value) if equals else None))
    return options


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\:,])", r"\\\1", text)


def _mount_in_steps(source: str, target: str, flags: int, options: list[tuple[str, str | list[str] | None]]) -> None:
    with _closing(system_call(_FSOPEN, "fsopen", "overlay", _FSOPEN_CLOEXEC, path=target)) as context:
        _configure(context, _SET_STRING, "source", source or "overlay", target)
        for key, value in options:
            if isinstance(value, list):
                for layer in value:
                    _configure(context, _SET_STRING, "lowerdir+", layer, target)
            else:
                _configure(context, _SET_FLAG if value is None else _SET_STRING, key, value, target)
        _configure(context, _CMD_CREATE, None, None, target)
        attributes = sum(attribute for flag, attribute in _ATTRIBUTES.items() if flags & flag)
        descriptor = system_call(_FSMOUNT, "fsmount", context, _FSMOUNT_CLOEXEC, attributes, path=target)
        with _closing(descriptor) as mounted:
            system_call(_MOVE_MOUNT, "move_mount", mounted, "", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH, path=target)


def _configure(context: int, command: int, key: str | None, value: str | None, target: str) -> None:
    if value is not None and len(os.fsencode(value)) > _STRING_SIZE:
        raise OSError(errno.EINVAL, f"fsconfig: {key} is longer than {_STRING_SIZE} bytes", target)
    try:
        system_call(_FSCONFIG, "fsconfig", context, command, key, value, 0, path=target)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({_complaint(context) or f'{key}={value}'})", target) from error


def _complaint(context: int) -> str:
    """Return what the kernel says against the configuration; each message starts with its class and a blank."""
    with contextlib.suppress(OSError):
        return os.fsdecode(os.read(context, 1024))[2:].strip()
    return ""


def _mount_by_descriptors(source: str, target: str, flags: int, options: list[tuple[str, str | list[str] | None]]) -> None:
    with contextlib.ExitStack() as stack:
        words: list[str] = []
        for key, value in options:
            if isinstance(value, list):
                layers = [stack.enter_context(_closing(os.open(layer, os.O_PATH | os.O_CLOEXEC))) for layer in value]
                words.append(f"{key}={':'.join(f'/proc/self/fd/{layer}' for layer in layers)}")
            else:
                words.append(key if value is None else f"{key}={_escaped(value)}")
        data = ",".join(words)
        if len(os.fsencode(data)) >= os.sysconf("SC_PAGE_SIZE"):
            raise OSError(errno.E2BIG, "mount: more layers than this kernel takes", target)
        call("mount", source or "overlay", target, "overlay", flags, data, path=target)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
