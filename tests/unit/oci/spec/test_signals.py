"""Signals: three vocabularies, one canonical name."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import signals


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SIGQUIT", "SIGQUIT"),
        ("quit", "SIGQUIT"),
        ("3", "SIGQUIT"),
        (" 15 ", "SIGTERM"),
        ("SIGCLD", "SIGCHLD"),
        ("IOT", "SIGABRT"),
        ("SIGPOLL", "SIGIO"),
        ("RTMIN", "SIGRTMIN"),
        ("RTMIN+3", "SIGRTMIN+3"),
        ("37", "SIGRTMIN+3"),
        ("SIGRTMAX-1", "SIGRTMAX-1"),
        ("RTMIN+29", "SIGRTMAX-1"),
        ("RTMAX-0", "SIGRTMAX"),
    ],
)
def test_parse(text: str, name: str) -> None:
    assert signals.parse(text) == name


@pytest.mark.parametrize("text", ["", "0", "32", "33", "65", "-1", "SIGFOO", "RTMIN+31", "RTMAX-31", "٣", "SIG", "9999"])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown signal"):
        signals.parse(text)


def test_numbers_are_those_of_this_machine() -> None:
    for member in signal.Signals:
        assert signals.number(member.name) == member.value


def test_every_value_of_the_cri_is_a_signal() -> None:
    for name, value in cri.Signal.items():
        if value != cri.SIGNAL_RUNTIME_DEFAULT:
            assert 1 <= signals.number(signals.from_cri(value)) <= 64, name
    assert signals.number(signals.from_cri(cri.SIGNAL_SIGTERM)) == 15
    assert signals.from_cri(cri.SIGNAL_SIGRTMINPLUS15) == "SIGRTMIN+15"


@given(st.integers(1, 64).filter(lambda value: value not in (32, 33)))
def test_the_cri_can_say_every_signal(value: int) -> None:
    name = signals.parse(str(value))
    assert signals.number(signals.from_cri(signals.to_cri(name))) == value


def test_who_decides_the_stop_signal() -> None:
    asked = cri.ContainerConfig(stop_signal=cri.SIGNAL_SIGUSR1)
    assert signals.stop_signal(asked, "SIGQUIT") == ("SIGUSR1", "")
    assert signals.stop_signal(cri.ContainerConfig(), "RTMIN+3") == ("SIGRTMIN+3", "")
    assert signals.stop_signal(cri.ContainerConfig(), "") == ("SIGTERM", "")


def test_a_nonsense_signal_of_an_image_is_a_warning() -> None:
    name, warning = signals.stop_signal(cri.ContainerConfig(), "SIGNONSENSE")
    assert name == "SIGTERM"
    assert "SIGNONSENSE" in warning


def test_a_value_unknown_to_the_cri_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="stop_signal"):
        signals.stop_signal(cri.ContainerConfig(stop_signal=99), "")  # type: ignore[arg-type]  # no value of the enum
