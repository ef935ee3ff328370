"""Telling the init system how the daemon is (sd_notify(3)): one datagram to the socket that it names in the environment."""

import asyncio
import logging
import os
import socket

from crid.log import fields

logger = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_OF = "WATCHDOG_PID"


def notify(state: str) -> bool:
    """Send `state`, such as READY=1, and return whether anybody was there to hear it. A failure is logged, never raised."""
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # one that does not read must not hold up who serves
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(state.encode())
    except OSError as error:
        logger.warning("the init system cannot be told%s", fields(state=state, socket=address, error=error))
        return False
    return True


def watchdog_patience() -> float:
    """Return after how many seconds of silence the init system ends the daemon, 0 if it does not (sd_watchdog_enabled(3))."""
    if os.environ.get(WATCHDOG_OF, str(os.getpid())) != str(os.getpid()):
        return 0
    try:
        return max(int(os.environ.get(WATCHDOG, "0")), 0) / 1e6
    except ValueError:
        logger.warning("the watchdog's patience is no number%s", fields(variable=WATCHDOG, value=os.environ[WATCHDOG]))
        return 0


async def feed_watchdog(patience: float) -> None:
    """Say, twice as often as the init system wants to hear it, that the event loop turns; never returns.

    All requests are served on that loop, so one that stands still is what a client would find, without one.
    """
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(patience / 2)
