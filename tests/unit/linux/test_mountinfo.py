from crid.linux import mountinfo
from crid.linux.mountinfo import MountEntry

RECORDED = rb"""22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 98:0 /mnt1 /mnt2\040with\011odd\134names\012 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue
51 28 0:44 / /run/\303\274 rw - tmpfs tm\040pfs rw,size=1024k
"""


def test_parse() -> None:
    assert mountinfo.parse(RECORDED) == [
        MountEntry("/sys", "sysfs", "sysfs", "0:20"),
        MountEntry("/mnt2 with\todd\\names\n", "ext3", "/dev/root", "98:0"),
        MountEntry("/run/ü", "tmpfs", "tm pfs", "0:44"),
    ]


def test_read_knows_proc() -> None:
    assert any(entry.target == "/proc" and entry.kind == "proc" for entry in mountinfo.read())
