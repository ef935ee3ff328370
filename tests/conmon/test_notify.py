"""The relay of sd_notify messages: what may pass to the host, and what may not."""

import socket

import pytest

from tests.conmon.harness import PATIENCE, Lab

pytestmark = pytest.mark.root


def test_only_harmless_lines_reach_the_host(lab: Lab) -> None:
    host = lab.root / "host"
    bundle = lab.bundle("sleep 1000")
    (bundle / "notify").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager:
        service_manager.bind(str(host))
        service_manager.settimeout(PATIENCE)
        run = lab.spawn_create(bundle, "--sdnotify-socket", str(host))
        run.next_event()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as container:
            container.connect(str(bundle / "notify/notify.sock"))
            container.send(b"MAINPID=1\nREADY=1\nFDSTORE=1\nSTATUS=fine")
        # 2.1.6 knows READY only
        expected = [b"READY=1"] if lab.build.stock else [b"READY=1", b"STATUS=fine"]
        assert service_manager.recv(4096).split() == expected
