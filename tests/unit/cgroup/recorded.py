"""Control files as real kernels wrote them, for trees that need none: cgroup v2 of Linux 6.1, cgroup v1 of 6.18."""

from collections.abc import Mapping
from pathlib import Path

V2_CONTAINER = {
    "cpu.stat": """\
usage_usec 3150867
user_usec 1358132
system_usec 1792734
nr_periods 160
nr_throttled 157
throttled_usec 12440890
nr_bursts 0
burst_usec 0
""",
    "cpu.pressure": """\
some avg10=50.70 avg60=15.11 avg300=3.46 total=10494481
full avg10=50.70 avg60=15.11 avg300=3.46 total=10492510
""",
    "memory.current": """\
466944
""",
    "memory.max": """\
67108864
""",
    "memory.stat": """\
anon 106496
file 8192
kernel 249856
inactive_anon 102400
active_anon 4096
inactive_file 4096
active_file 4096
pgfault 10804
pgmajfault 26
thp_fault_alloc 12
""",
    "memory.events": """\
low 0
high 0
max 211
oom 1
oom_kill 1
oom_group_kill 0
""",
    "memory.pressure": """\
some avg10=4.67 avg60=0.90 avg300=0.19 total=574284
full avg10=4.67 avg60=0.90 avg300=0.19 total=574284
""",
    "memory.swap.current": """\
0
""",
    "memory.swap.max": """\
max
""",
    "io.pressure": """\
some avg10=0.00 avg60=0.00 avg300=0.00 total=614
full avg10=0.00 avg60=0.00 avg300=0.00 total=614
""",
    "pids.current": """\
1
""",
    "pids.max": """\
100
""",
}
"""A container that was throttled, and in which a process was killed for want of memory."""

V1_CONTAINER = {
    "cpu/cpu.stat": """\
nr_periods 19
nr_throttled 19
throttled_time 1476495926
nr_bursts 0
burst_time 0
""",
    "cpuacct/cpuacct.usage": """\
387067745
""",
    "cpuacct/cpuacct.usage_user": """\
283986140
""",
    "cpuacct/cpuacct.usage_sys": """\
120000000
""",
    "memory/memory.usage_in_bytes": """\
43286528
""",
    "memory/memory.limit_in_bytes": """\
67108864
""",
    "memory/memory.memsw.limit_in_bytes": """\
100663296
""",
    "memory/memory.oom_control": """\
oom_kill_disable 0
under_oom 0
oom_kill 1
""",
    "memory/memory.stat": """\
cache 43077632
rss 32768
inactive_file 42999808
total_cache 43077632
total_rss 32768
total_rss_huge 0
total_shmem 0
total_mapped_file 0
total_dirty 8192
total_writeback 0
total_workingset_refault_anon 0
total_workingset_refault_file 10516
total_swap 0
total_swapcached 0
total_pgpgin 19897
total_pgpgout 19504
total_pgfault 24298
total_pgmajfault 2
total_inactive_anon 0
total_active_anon 0
total_inactive_file 42999808
total_active_file 12288
total_unevictable 0
""",
    "pids/pids.current": """\
1
""",
    "pids/pids.max": """\
100
""",
    "pids/cgroup.procs": """\
32622
""",
}
"""The same by controller, with a swap limit of 32 MiB."""


def write_tree(root: Path, files: Mapping[str, str]) -> None:
    """Write `files`, by path, below `root`."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
