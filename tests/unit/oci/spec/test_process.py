"""The first process."""

import pytest

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.image import ImageProcess
from crid.oci.spec import process

IMAGE = ImageProcess(entrypoint=("/entry",), cmd=("serve",), env=("A=1", "B=x=y"), working_dir="/srv")


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ((), (), ["/entry", "serve"]),
        ((), ("a",), ["/entry", "a"]),
        (("c",), (), ["c"]),
        (("c",), ("a", "b"), ["c", "a", "b"]),
    ],
)
def test_arguments(command: tuple[str, ...], args: tuple[str, ...], expected: list[str]) -> None:
    assert process.arguments(cri.ContainerConfig(command=command, args=args), IMAGE) == expected


def test_an_image_with_cmd_only() -> None:
    assert process.arguments(cri.ContainerConfig(), ImageProcess(cmd=("sh",))) == ["sh"]


@pytest.mark.parametrize("command", [(), ("",), ("a\0b",)])
def test_what_cannot_be_run(command: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="command"):
        process.arguments(cri.ContainerConfig(command=command), ImageProcess())


def environment(*pairs: tuple[str, bytes], tty: bool = False, image: ImageProcess = IMAGE) -> dict[str, str]:
    config = cri.ContainerConfig(envs=[cri.KeyValue(key=key, value=value) for key, value in pairs], tty=tty)
    entries, _ = process.environment(config, image, "host", "/home/u")
    return dict(entry.split("=", 1) for entry in entries)


def test_the_config_wins_over_the_image() -> None:
    variables = environment(("A", b"2"), ("C", b""))
    assert (variables["A"], variables["B"], variables["C"]) == ("2", "x=y", "")


def test_what_every_program_expects() -> None:
    assert environment(tty=True) | {"A": "", "B": ""} == {
        "A": "",
        "B": "",
        "PATH": process.DEFAULT_PATH,
        "HOSTNAME": "host",
        "HOME": "/home/u",
        "TERM": "xterm",
    }
    assert "TERM" not in environment()
    assert environment(("PATH", b"/x"), ("TERM", b"vt100"), tty=True)["TERM"] == "vt100"


def test_values_are_bytes() -> None:
    assert environment(("RAW", b"\xff\xfe"))["RAW"] == "\udcff\udcfe"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("", b"x", r"envs\[0\]"),
        ("A=B", b"x", r"envs\[0\]"),
        ("A", b"a\0b", "NUL"),
        ("HOME", b"/x\nroot::0:0::/:/bin/sh", "HOME"),
    ],
)
def test_environment_refusals(key: str, value: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        environment((key, value))


def test_an_images_malformed_entries_are_left_out() -> None:
    entries, warnings = process.environment(cri.ContainerConfig(), ImageProcess(env=("NOVALUE", "=x", "OK=1")), "h", "/")
    assert "OK=1" in entries
    assert not [entry for entry in entries if entry.startswith(("NOVALUE", "="))]
    assert "2" in warnings[0]


def test_working_directory() -> None:
    assert process.working_directory(cri.ContainerConfig(), IMAGE) == "/srv"
    assert process.working_directory(cri.ContainerConfig(working_dir="/w"), IMAGE) == "/w"
    assert process.working_directory(cri.ContainerConfig(), ImageProcess()) == "/"
    assert process.working_directory(cri.ContainerConfig(), ImageProcess(working_dir="app")) == "/app"
    with pytest.raises(InvalidArgumentError, match="working_dir"):
        process.working_directory(cri.ContainerConfig(working_dir="w"), IMAGE)


def test_oom_score() -> None:
    def adjustment(value: int, own: int, can_lower: bool) -> tuple[int, str]:
        return process.oom_score_adjustment(cri.LinuxContainerResources(oom_score_adj=value), own, can_lower)

    assert adjustment(500, 0, False) == (500, "")
    assert adjustment(-998, 0, True) == (-998, "")
    assert adjustment(0, -999, False) == (0, "")
    score, warning = adjustment(-998, 0, False)
    assert score == 0
    assert "CAP_SYS_RESOURCE" in warning
    with pytest.raises(InvalidArgumentError, match="oom_score_adj"):
        adjustment(1001, 0, True)
