"""Which mounts are a killed runtime's view of its own program."""

from crid.linux.mountinfo import MountEntry
from crid.oci.self_mounts import views

PROGRAMS = {"/usr/bin/crun", "/usr/sbin/runc"}


def entry(target: str, root: str) -> MountEntry:
    return MountEntry(target, "ext4", "/dev/vda", "8:1", root=root)


def test_only_a_runtimes_own_program_in_its_own_place_counts() -> None:
    mounts = [
        entry("/", "/"),
        entry("/tmp", "/"),
        entry("/tmp/crun.aB3dEf", "/usr/bin/crun"),
        entry("/tmp/crun.subvol", "/@/usr/bin/crun"),
        entry("/tmp/crun.usrown", "/bin/crun"),
        entry("/tmp/crun.others", "/usr/bin/cat"),
        entry("/tmp/crun.direct", "/"),
        entry("/tmp/crun.toolong", "/usr/bin/crun"),
        entry("/tmp/below/crun.aB3dEf", "/usr/bin/crun"),
        entry("/mnt/crun", "/usr/bin/crun"),
    ]
    assert views(mounts, PROGRAMS) == {"/tmp/crun.aB3dEf", "/tmp/crun.subvol", "/tmp/crun.usrown"}
    assert views(mounts, ()) == set()
