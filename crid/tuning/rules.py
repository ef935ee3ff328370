"""How the settings of several containers meet in one file of the host. Pure.

Each rule says what the file shall say once a container holds it, and once the container lets go. Both start from what the
file says now, so that what others have written there meanwhile stays: only what crid changed is changed back.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from crid.model import cpus


class Rule(ABC):
    """Values are texts: of a file, and what containers want of it."""

    @abstractmethod
    def held(self, current: str, value: str) -> str:
        """Return the file's text when one more container holds it with `value`."""

    @abstractmethod
    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        """Return the file's text when the container that held it with `value` lets go.

        `original` is what the file said before anybody held it, `others` what the other containers want, in their order.
        """


class Value(Rule):
    """The file says what the last container wants; after the last one, what it said before."""

    def held(self, current: str, value: str) -> str:
        return value

    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        return others[-1] if others else original


class MaskWithout(Rule):
    """A mask of CPUs without those that containers have, /proc/irq/default_smp_affinity; values are lists."""

    def held(self, current: str, value: str) -> str:
        return cpus.to_mask(cpus.parse_mask(current) - cpus.parse(value), current)

    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        back = (cpus.parse(value) & cpus.parse_mask(original)) - _union(others)
        return cpus.to_mask(cpus.parse_mask(current) | back, current)


class ListWith(Rule):
    """A list of CPUs with those that containers have, cpuset.cpus.exclusive; values are lists."""

    def held(self, current: str, value: str) -> str:
        return cpus.to_list(cpus.parse(current) | cpus.parse(value))

    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        return cpus.to_list(cpus.parse(current) - (cpus.parse(value) - cpus.parse(original) - _union(others)))


class QuotaPlus(Rule):
    """A cgroup's CPU quota, raised by microseconds: cpu.cfs_quota_us, or cpu.max with its period. Without a limit it stays."""

    def held(self, current: str, value: str) -> str:
        quota, *period = current.split()
        return current if quota in ("-1", "max") else " ".join((str(int(quota) + int(value)), *period))

    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        quota, *period = current.split()
        before = original.split()[0]
        if quota in ("-1", "max") or before in ("-1", "max"):
            return current
        return " ".join((str(max(int(quota) - int(value), int(before))), *period))


class BannedCpus(Rule):
    """irqbalance's configuration: a mask on one line of it. Values are lists."""

    variable = "IRQBALANCE_BANNED_CPUS"
    _line = re.compile(rf"^{variable}=\s*[\"']?([0-9A-Fa-f,]*)[\"']?\s*$", re.MULTILINE)

    def banned(self, text: str) -> frozenset[int]:
        """Return the CPUs that the text bans; the last line of that name counts, as for a shell."""
        found = self._line.findall(text)
        return cpus.parse_mask(found[-1]) if found and found[-1] else frozenset()

    def with_banned(self, text: str, banned: frozenset[int]) -> str:
        """Return the text that bans these, and otherwise is the same."""
        words = ",".join("0" for _ in range(max(banned, default=0) // 32 + 1))
        line = f'{self.variable}="{cpus.to_mask(banned, words) if banned else ""}"'
        if self._line.search(text):
            return self._line.sub(line, text)
        return f"{text}\n{line}" if text else line

    def held(self, current: str, value: str) -> str:
        return self.with_banned(current, self.banned(current) | cpus.parse(value))

    def released(self, current: str, original: str, value: str, others: Sequence[str]) -> str:
        gone = cpus.parse(value) - self.banned(original) - _union(others)
        return self.with_banned(current, self.banned(current) - gone)


RULES: dict[str, Rule] = {
    "value": Value(),
    "mask-without": MaskWithout(),
    "list-with": ListWith(),
    "quota-plus": QuotaPlus(),
    "banned-cpus": BannedCpus(),
}
"""By the names that records have."""


def _union(lists: Sequence[str]) -> frozenset[int]:
    return frozenset().union(*map(cpus.parse, lists))
