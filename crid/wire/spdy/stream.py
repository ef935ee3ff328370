"""One SPDY stream: two halves, each with the same small machine, and the ledgers of its two windows.

A stream has a sending and a receiving half, and they close apart from each other. The half of the side that was called
waits for its SYN_REPLY first. What a half may do is the table below; a move that is not in it is a fault of whoever
made it, and changes nothing.
Rules: SPDY protocol draft 3.1, section 2.3 (streams), 2.6.8 (flow control).
"""

from dataclasses import dataclass, field
from enum import Enum

INITIAL_WINDOW = 64 * 1024


class Half(Enum):
    """State of one direction."""

    AWAITING_REPLY = "awaiting reply"
    OPEN = "open"
    FINISHED = "finished"


class Move(Enum):
    """What may happen in one direction. A reset ends both halves from any state, and is not in the table."""

    REPLY = "SYN_REPLY"
    HEADERS = "HEADERS"
    DATA = "DATA"
    FIN = "FIN"


MOVES: dict[tuple[Half, Move], Half] = {
    (Half.AWAITING_REPLY, Move.REPLY): Half.OPEN,
    (Half.OPEN, Move.HEADERS): Half.OPEN,
    (Half.OPEN, Move.DATA): Half.OPEN,
    (Half.OPEN, Move.FIN): Half.FINISHED,
}


@dataclass(slots=True)
class Stream:
    """`send_window` may be negative, after the peer made its window smaller. Sizes are in bytes.

    `held` was received and is not yet acknowledged; `owed` was acknowledged and is not yet told to the peer.
    """

    stream_id: int
    sending: Half
    receiving: Half
    send_window: int
    receive_window: int
    held: int = 0
    owed: int = 0
    blocked: bool = field(default=False)

    @property
    def ended(self) -> bool:
        """Whether both halves have finished and nothing of it is held any more."""
        return self.sending is Half.FINISHED and self.receiving is Half.FINISHED and not self.held
