import io

from crid.cli_progress import Progress, Transfer, line

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
MIB = 1 << 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_for_a_file() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.update({A: Transfer(0, 3 * MIB), B: Transfer(MIB)})
    progress.update({B: Transfer(2 * MIB)})
    progress.close()
    assert out.getvalue() == "aaaaaaaaaaaa: done, 3.0 MiB\nbbbbbbbbbbbb: done, 2.0 MiB\n"


def test_bars_for_a_terminal() -> None:
    out = Terminal()
    progress = Progress(out)
    progress.update({A: Transfer(MIB, 2 * MIB)})
    progress.update({A: Transfer(2 * MIB, 2 * MIB), B: Transfer(0, MIB)})
    progress.close()
    assert out.getvalue().count("\x1b[1A") == 1
    assert out.getvalue().count("\x1b[2A") == 1
    assert out.getvalue().endswith(f"{line(B, Transfer(MIB, MIB))}\n")


def test_a_line() -> None:
    assert line(A, Transfer(MIB, 2 * MIB)) == f"aaaaaaaaaaaa [{'#' * 15}{' ' * 15}]      1.0 of 2.0 MiB"
    assert line(A, Transfer(MIB)) == "aaaaaaaaaaaa      1.0 MiB"
