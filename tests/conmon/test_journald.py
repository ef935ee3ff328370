"""The journald driver against a socket of ours, where a mount namespace puts it under the journal's name."""

import socket

import pytest

from tests.conmon.harness import PATIENCE, Lab, Run

pytestmark = pytest.mark.root


def fields(datagram: bytes) -> dict[str, bytes]:
    """The native journal protocol: NAME=VALUE lines, or NAME, a 64-bit length, and that many bytes."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode()], datagram = value, rest
        else:
            size = int.from_bytes(rest[:8], "little")
            found[name.decode()], datagram = rest[8 : 8 + size], rest[8 + size + 1 :]
    return found


def run_with_journal(lab: Lab, script: str, *options: str) -> tuple[Run, list[dict[str, bytes]]]:
    folder = lab.root / "journal"
    folder.mkdir()
    bundle = lab.bundle(script)
    cid = f"{lab.root.name}-{lab.count}-long-enough"
    argv = lab.command(cid, bundle, *options)
    argv[argv.index("-l") + 1] = "journald:"
    inside = 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal && exec "$@"'
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(folder / "socket"))
        journal.settimeout(PATIENCE)
        run = lab.spawn(["unshare", "-m", "sh", "-c", inside, str(folder), *argv], bundle, cid)
        run.next_event()
        run.start()
        run.wait_exit()
        run.wait_gone()
        journal.setblocking(False)
        entries = []
        while True:
            try:
                entries.append(fields(journal.recv(1 << 20)))
            except BlockingIOError:
                return run, entries


def test_lines_with_their_fields(lab: Lab) -> None:
    run, entries = run_with_journal(lab, "echo out; echo err >&2; printf 'no end'")
    by_text = {entry["MESSAGE"]: entry for entry in entries}
    assert set(by_text) == {b"out", b"err", b"no end"} or set(by_text) == {b"out\n", b"err\n", b"no end"}
    first = next(entry for entry in entries if entry["MESSAGE"].startswith(b"out"))
    assert first["PRIORITY"] == b"6"
    assert first["CONTAINER_ID_FULL"] == run.cid.encode()
    assert first["CONTAINER_ID"] == run.cid[:12].encode()
    assert first["CONTAINER_NAME"] == b"name-of-it"
    assert first["SYSLOG_IDENTIFIER"] in (b"name-of-it", run.cid[:12].encode())
    assert "CONTAINER_PARTIAL_MESSAGE" not in first
    assert by_text[b"no end"]["CONTAINER_PARTIAL_MESSAGE"] == b"true"


@pytest.mark.ours_only("features of 2.2")
def test_labels_tag_and_priorities(lab: Lab) -> None:
    _, entries = run_with_journal(lab, "echo '<3>bad'", "--log-tag", "tagged", "--log-label", "COLOUR=red")
    (entry,) = entries
    assert entry["MESSAGE"] == b"bad"
    assert entry["PRIORITY"] == b"3"
    assert entry["COLOUR"] == b"red"
    assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == b"tagged"


@pytest.mark.ours_only("features of 2.2")
def test_long_line_comes_in_pieces(lab: Lab) -> None:
    _, entries = run_with_journal(lab, "yes 0123456 | tr -d '\\n' | head -c 20000; echo")
    assert b"".join(entry["MESSAGE"] for entry in entries) == (b"0123456" * 2858)[:20000]
    assert ["CONTAINER_PARTIAL_MESSAGE" in entry for entry in entries] == [True, True, False]


@pytest.mark.ours_only("features of 2.2")
@pytest.mark.parametrize("label", ["=x", "NAME", "A=b=c", "lower=x", "A=x\nB=y"])
def test_label_that_is_none(lab: Lab, label: str) -> None:
    bundle = lab.bundle("true")
    argv = lab.command("long-enough-id", bundle, "--log-label", label)
    argv[argv.index("-l") + 1] = "journald:"
    run = lab.spawn(argv, bundle, "long-enough-id")
    assert run.wait_parent() == 1
    assert "label" in run.stderr()
