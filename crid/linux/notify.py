"""Telling the init system how the daemon is (sd_notify(3)): one datagram to the socket that it names in the environment."""

import logging
import os
import socket

from crid.log import fields

logger = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"


def notify(state: str) -> bool:
    """Send `state`, such as READY=1, and return whether anybody was there to hear it. A failure is logged, never raised."""
    address = os.environ.get(VARIABLE, "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(state.encode())
    except OSError as error:
        logger.warning("the init system cannot be told%s", fields(state=state, socket=address, error=error))
        return False
    return True
