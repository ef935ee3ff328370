"""The log file: format, joining, limits, reopening, drivers, and a log that cannot be written."""

import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crid.wire.conmon import Stream, stdin_packets
from crid.wire.conmon_log import join_output
from tests.conmon.harness import Lab, Run, wait_until

pytestmark = pytest.mark.root

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d")


def finished(run: Run) -> Run:
    run.wait_exit()
    run.wait_gone()
    return run


def test_lines_of_both_streams(lab: Lab) -> None:
    run = finished(lab.run("echo out; echo err >&2; echo; printf 'two\\nlines\\n'"))
    records = run.records()
    assert all(TIME.fullmatch(record.time) for record in records)
    assert [r.text for r in records if r.stream == "stdout"] == [b"out", b"", b"two", b"lines"]
    assert [r.text for r in records if r.stream == "stderr"] == [b"err"]
    assert not any(record.partial for record in records)


def test_output_without_newline_ends_with_a_partial_record(lab: Lab) -> None:
    """The kubelet shows it without a newline, and ExecSync returns exactly what was written."""
    run = finished(lab.run("printf 'no end'"))
    (record,) = run.records()
    assert (record.text, record.partial) == (b"no end", True)


def test_long_line_is_cut_at_8_kib_and_joins_again(lab: Lab) -> None:
    run = finished(lab.run("yes 0123456 | tr -d '\\n' | head -c 100000; echo"))
    records = run.records()
    assert max(len(record.text) for record in records) <= 8192
    assert [record.partial for record in records].count(False) == 1
    assert run.log().stdout == b"0123456" * 14285 + b"01234" + b"\n"


def test_much_output_is_complete(lab: Lab) -> None:
    run = finished(lab.run("seq 1 200000; echo end >&2"))
    assert run.log().stdout == "".join(f"{n}\n" for n in range(1, 200001)).encode()
    assert run.log().stderr == b"end\n"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(chunks=st.lists(st.binary(min_size=1, max_size=20000), min_size=1, max_size=5))
def test_any_bytes_in_any_chunks_join_exactly(lab: Lab, chunks: list[bytes]) -> None:
    """Each example's bytes go in by attach, out by the log and by attach; both must give them back."""
    if not lab.runs:
        lab.run("cat; exec sleep 1000", "-i", "--leave-stdin-open")
    run = lab.runs[0]
    before = run.log_path.stat().st_size
    client = run.attach()
    for chunk in chunks:
        for packet in stdin_packets(chunk):
            client.send(packet)
    expected = b"".join(chunks)
    while len(client.received[Stream.STDOUT]) < len(expected):
        assert client.receive()
    client.close()
    assert client.received[Stream.STDOUT] == expected
    joined = join_output(run.log_path.read_bytes()[before:])
    assert (joined.stdout, joined.stderr, joined.damaged) == (expected, b"", 0)


def test_size_limit_keeps_the_newest(lab: Lab) -> None:
    run = finished(lab.run("seq 1 20000", "--log-size-max", "8192"))
    content = run.log_path.read_bytes()
    assert 0 < len(content) <= 8192
    kept = join_output(content).stdout  # which may begin within a line
    assert len(kept) > 500
    assert "".join(f"{n}\n" for n in range(1, 20001)).encode().endswith(kept)
    assert not Path(f"{run.log_path}.tmp").exists()


def test_global_limit_stops_the_log_not_the_container(lab: Lab) -> None:
    run = finished(lab.run("seq 1 20000; exit 5", "--log-global-size-max", "5000"))
    size = run.log_path.stat().st_size
    assert 5000 <= size < 5100  # the record that reaches it is still whole
    assert (lab.exits / run.cid).read_text() == "5"
    assert run.log().damaged == 0


@pytest.mark.ours_only("an option of 2.2")
def test_rotation_keeps_so_many_files(lab: Lab) -> None:
    run = finished(lab.run("seq 1 2000", "--log-size-max", "8192", "--log-rotate", "--log-max-files", "2"))
    files = sorted(path.name for path in run.bundle.glob("log*"))
    assert files == ["log", "log.1", "log.2"]
    kept = b"".join(join_output((run.bundle / name).read_bytes()).stdout for name in reversed(files))
    assert len(kept) > 1500
    assert "".join(f"{n}\n" for n in range(1, 2001)).encode().endswith(kept)


@pytest.mark.ours_only("an option of 2.2")
def test_rotation_outside_of_the_allowed_directories_truncates(lab: Lab) -> None:
    limits = ("--log-size-max", "8192", "--log-rotate", "--log-allowlist-dir", str(lab.sockets))
    run = finished(lab.run("seq 1 2000", *limits))
    assert sorted(path.name for path in run.bundle.glob("log*")) == ["log"]


def test_reopen_after_the_kubelet_moved_the_file(lab: Lab) -> None:
    run = lab.run("read a; echo one; read a; echo two", "-i")
    client = run.attach()
    client.send(b"\n")
    run.wait_log(b"one")
    moved = run.bundle / "moved"
    run.log_path.rename(moved)
    run.control(b"2 0 0\n")
    wait_until(run.log_path.exists, "the new log")
    client.send(b"\n")
    run.wait_exit()
    assert join_output(moved.read_bytes()).stdout == b"one\n"
    wait_until(lambda: run.log().stdout == b"two\n", "the second line")


@pytest.mark.ours_only("drops what is there")
def test_reopen_of_a_file_nobody_moved_loses_nothing(lab: Lab) -> None:
    run = lab.run("read a; echo one; read a; echo two", "-i")
    client = run.attach()
    client.send(b"\n")
    run.wait_log(b"one")
    run.control(b"2 0 0\n")
    client.send(b"\n")
    finished(run)
    assert run.log().stdout == b"one\ntwo\n"


@pytest.mark.parametrize("driver", ["k8s-file:{}", ":{}", "{}"])
def test_ways_to_name_the_file(lab: Lab, driver: str) -> None:
    bundle = lab.bundle("echo x")
    cid = f"{lab.root.name}-{lab.count}"
    argv = lab.command(cid, bundle)
    argv[argv.index("-l") + 1] = driver.format(bundle / "log")
    run = lab.spawn(argv, bundle, cid)
    run.next_event()
    run.start()
    finished(run)
    assert run.log().stdout == b"x\n"


@pytest.mark.parametrize("driver", ["none", "off", "null"])
def test_no_log_at_all(lab: Lab, driver: str) -> None:
    bundle = lab.bundle("echo x; exit 4")
    cid = f"{lab.root.name}-{lab.count}"
    argv = lab.command(cid, bundle)
    argv[argv.index("-l") + 1] = driver
    run = lab.spawn(argv, bundle, cid)
    run.next_event()
    run.start()
    assert run.wait_exit() == 4
    assert not run.log_path.exists()


def test_several_drivers(lab: Lab) -> None:
    run = finished(lab.run("echo x", "-l", "none"))
    assert run.log().stdout == b"x\n"


def test_passthrough_gives_the_callers_streams(lab: Lab) -> None:
    bundle = lab.bundle("echo to-stderr >&2")
    cid = f"{lab.root.name}-{lab.count}"
    argv = lab.command(cid, bundle)
    argv[argv.index("-l") + 1] = "passthrough"
    argv[argv.index("--log-level") + 1] = "error"
    run = lab.spawn(argv, bundle, cid)
    run.next_event()
    run.start()
    run.wait_exit()
    assert "to-stderr" in run.stderr()
    assert not (bundle / "attach").exists()


@pytest.mark.ours_only("lets the unwritten output go on blocking it, or dies")
def test_full_disk_neither_stops_nor_hides_the_end(lab: Lab) -> None:
    """/dev/full refuses every write."""
    bundle = lab.bundle("seq 1 100000; exit 6")
    cid = f"{lab.root.name}-{lab.count}"
    argv = lab.command(cid, bundle)
    argv[argv.index("-l") + 1] = "/dev/full"
    run = lab.spawn(argv, bundle, cid)
    run.next_event()
    run.start()
    assert run.wait_exit() == 6


@pytest.mark.ours_only("merges the torn record with the next")
def test_record_torn_by_a_full_disk_costs_no_other(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", folder], check=True)
    try:
        filler = folder / "filler"
        filler.write_bytes(bytes(48 * 1024))
        run = lab.run("read a; seq -w 1 100000; read a; echo after", "-i", "-l", str(folder / "log"))
        client = run.attach()
        client.send(b"\n")
        client.receive_until(b"100000")
        filler.unlink()
        client.send(b"\n")
        run.wait_exit()
        run.wait_gone()
        joined = join_output((folder / "log").read_bytes())
    finally:
        subprocess.run(["umount", folder], check=True)
    assert joined.stdout.endswith(b"after\n")
    assert joined.damaged <= 1


def test_log_may_be_a_pipe_that_somebody_reads(lab: Lab) -> None:
    path = lab.root / "pipe"
    os.mkfifo(path)
    collected: list[bytes] = []
    reader = threading.Thread(target=lambda: collected.append(path.read_bytes()))
    reader.start()
    finished(lab.run("echo through", "-l", str(path), "--no-sync-log"))
    reader.join()
    assert join_output(collected[0]).stdout == b"through\n"
