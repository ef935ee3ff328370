import io

from crid.cli_progress import Progress, bar
from crid.image.transfers import Transfer

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_for_a_file() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.update([])
    progress.update([Transfer(A, 0, 3 * MIB), Transfer(B, MIB, MIB)])
    progress.update([Transfer(A, MIB, 3 * MIB), Transfer(B, MIB, MIB)])
    progress.update([Transfer(A, 3 * MIB, 3 * MIB), Transfer(B, MIB, MIB)])
    assert out.getvalue() == "bbbbbbbbbbbb: done, 1.0 MiB\naaaaaaaaaaaa: done, 3.0 MiB\n"


def test_bars_for_a_terminal() -> None:
    out = Terminal()
    progress = Progress(out)
    progress.update([])
    progress.update([Transfer(A, MIB, 2 * MIB)])
    progress.update([Transfer(A, 2 * MIB, 2 * MIB), Transfer(B, 0, MIB)])
    progress.update([Transfer(A, 2 * MIB, 2 * MIB), Transfer(B, MIB, MIB)])
    assert out.getvalue().count("\x1b[1A") == 1
    assert out.getvalue().count("\x1b[2A") == 1
    assert out.getvalue().endswith(f"{bar(Transfer(B, MIB, MIB))}\n")


def test_a_terminal_that_is_too_low_shows_what_is_not_finished() -> None:
    out = Terminal()
    many = [Transfer(f"sha256:{number:064}", MIB * (number % 2), MIB) for number in range(60)]
    Progress(out).update(many)
    rows = out.getvalue().splitlines()
    assert len(rows) == 23
    assert all("0.0 of 1.0" in row for row in rows)


def test_a_bar() -> None:
    assert bar(Transfer(A, MIB, 2 * MIB)) == f"aaaaaaaaaaaa [{'#' * 15}{' ' * 15}]      1.0 of 2.0 MiB"
    assert bar(Transfer(A, 0, 0)) == f"aaaaaaaaaaaa [{'#' * 30}]      0.0 of 0.0 MiB"
