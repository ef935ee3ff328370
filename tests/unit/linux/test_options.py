import pytest

from crid.linux.options import MountOptions, parse_options

BIND, REC, REMOUNT = 4096, 16384, 32
PRIVATE, SLAVE = 1 << 18, 1 << 19


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), MountOptions()),
        (("defaults",), MountOptions()),
        (("ro", "nosuid", "nodev", "noexec"), MountOptions(set_flags=15)),
        (("ro", "rw"), MountOptions(cleared_flags=1)),
        (("rw", "ro"), MountOptions(set_flags=1)),
        (("rbind", "rprivate", "slave"), MountOptions(kind_flags=BIND | REC, propagation=(PRIVATE | REC, SLAVE))),
        (("mode=1777", "ro", "size=65536k"), MountOptions(set_flags=1, data="mode=1777,size=65536k")),
        (("remount", "bind", "ro"), MountOptions(set_flags=1, kind_flags=BIND | REMOUNT)),
    ],
)
def test_options(words: tuple[str, ...], expected: MountOptions) -> None:
    assert parse_options(words) == expected


def test_the_kind_bind_needs_no_word() -> None:
    assert parse_options((), bind=True).bind
    assert not parse_options(("ro",)).bind
