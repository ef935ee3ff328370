from crid.linux import mountinfo
from crid.linux.mountinfo import MountEntry

RECORDED = rb"""22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2\040with\011odd\134names\012 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
51 28 0:44 / /run/\303\274 rw - tmpfs tm\040pfs rw,size=1024k
"""


def test_parse() -> None:
    assert mountinfo.parse(RECORDED) == [
        MountEntry("/sys", "sysfs", "sysfs", "0:20", frozenset({"shared"}), frozenset({"rw"})),
        MountEntry(
            "/mnt2 with\todd\\names\n",
            "ext3",
            "/dev/root",
            "98:0",
            frozenset({"master", "propagate_from"}),
            frozenset({"rw", "errors=continue"}),
            "/mnt1",
        ),
        MountEntry("/run/ü", "tmpfs", "tm pfs", "0:44", options=frozenset({"rw", "size=1024k"})),
    ]


def test_the_mount_that_holds_a_path() -> None:
    first, sys, again, below = (MountEntry(target, "", str(n), "") for n, target in enumerate(("/", "/sys", "/sys", "/sys/fs")))
    entries = [first, sys, again, below]
    assert mountinfo.holding(entries, "/") is first
    assert mountinfo.holding(entries, "/system") is first
    assert mountinfo.holding(entries, "/sys") is again  # it covers the other one
    assert mountinfo.holding(entries, "/sys/kernel/x") is again
    assert mountinfo.holding(entries, "/sys/fs/cgroup") is below


def test_read_knows_proc() -> None:
    assert any(entry.target == "/proc" and entry.kind == "proc" for entry in mountinfo.read())
