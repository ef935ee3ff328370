"""Faults in the verbs that end things: what must be there first is made unharmed."""

from types import FrameType

from tests.harness.faults import Faults

IN_MEMORY = ("oci/fake.py:", "store/memory.py:", "store/names.py:", "lifecycle/inflight.py:", "lifecycle/exits.py:Exits.forget")
"""Bookkeeping in dicts, which cannot fail, and the inside of the fake runtime, whose verbs tests make fail instead."""


class LateFaults(Faults):
    """Faults between `begin`, in the midst of the work, and its end; `hold` is called at its beginning."""

    def hold(self) -> None:
        """Let nothing fail for the time being."""
        self._active = False

    def begin(self) -> None:
        """Now the work begins."""
        self._active = True

    def _name(self, frame: FrameType) -> str:
        name = super()._name(frame)
        return "" if name.startswith(IN_MEMORY) else name
