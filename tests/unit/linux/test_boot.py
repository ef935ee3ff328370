import os
import re
import time

from crid.linux import boot
from crid.linux.process import start_time


def test_boot_id_is_a_uuid_that_stays() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot.boot_id())
    assert boot.boot_id() == boot.boot_id()


def test_this_process_started_after_boot_and_before_now() -> None:
    ticks = start_time(os.getpid())
    assert ticks is not None
    assert boot.started_at(0) < boot.started_at(ticks) <= time.time_ns()
