"""What the clients were told: the promises that a daemon has to keep, whatever becomes of it.

A request that was sent and not answered promises nothing: what it asked for may have been done or not, but not by half.
"""

import enum
import threading
from dataclasses import dataclass, field
from pathlib import Path

from crid.cri import api_pb2 as cri

TERM_CODE = 7
"""What a container of the load exits with when it is asked to by its stop signal."""
KILLED = 137
START_ERROR = 128

PROGRAM = (
    f'trap "echo end; exit {TERM_CODE}" TERM; i=0; '
    "while [ $i -lt $1 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; echo end; exit $2"
)


class Said(enum.Enum):
    """How far a request has come."""

    NO = "not asked"
    ASKED = "asked"
    TOLD = "answered"


@dataclass(slots=True, eq=False)
class PodFacts:
    """One pod. `id` is empty until RunPodSandbox was answered."""

    config: cri.PodSandboxConfig
    handler: str = ""
    id: str = ""
    stopped: Said = Said.NO
    removed: Said = Said.NO


@dataclass(slots=True, eq=False)
class ContainerFacts:
    """One container. `codes` are the exit codes that it may have by what was asked so far; `lines` is how many it prints
    unless it is ended before."""

    config: cri.ContainerConfig
    pod: PodFacts
    lines: int
    codes: set[int]
    id: str = ""
    started: Said = Said.NO
    removed: Said = Said.NO
    rotated: list[Path] = field(default_factory=list)
    """What its log was renamed to, oldest first."""
    _renaming: threading.Lock = field(default_factory=threading.Lock)

    @property
    def log(self) -> Path:
        """Where its log is."""
        return Path(self.pod.config.log_directory, self.config.log_path)

    def rotate(self) -> None:
        """Rename its log, as the kubelet does before it has it reopened."""
        with self._renaming:
            self.rotated.append(self.log.with_name(f"{self.log.name}.{len(self.rotated)}"))
            self.log.rename(self.rotated[-1])

    def texts(self) -> list[str]:
        """Return the texts of all complete lines that it has logged, whatever the file."""
        with self._renaming:
            content = "".join(path.read_text() for path in (*self.rotated, self.log) if path.exists())
        complete = content[: content.rfind("\n") + 1]
        return [line.split(" ", 3)[3] for line in complete.splitlines()]

    @property
    def may_be_gone(self) -> bool:
        """Whether somebody has asked for its removal, or for that of its pod."""
        return self.removed is not Said.NO or self.pod.removed is not Said.NO


@dataclass(slots=True)
class Ledger:
    """Everything asked for. Facts are added before the request for them is sent."""

    pods: list[PodFacts] = field(default_factory=list)
    containers: list[ContainerFacts] = field(default_factory=list)
    images: dict[str, Said] = field(default_factory=dict)
    """Names of images that are pulled and removed in turn: TOLD once it was pulled, NO once it was removed."""
    ids: set[str] = field(default_factory=set)
    """All ids ever told."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, facts: PodFacts | ContainerFacts) -> None:
        """Take up what is about to be asked for."""
        with self.lock:
            if isinstance(facts, PodFacts):
                self.pods.append(facts)
            else:
                self.containers.append(facts)

    def settle(self, pod: PodFacts) -> None:
        """Forget a pod of which a client was told that it is removed, and what was in it."""
        with self.lock:
            self.ids.add(pod.id)
            self.ids.update(facts.id for facts in self.containers if facts.pod is pod)
            self.pods.remove(pod)
            self.containers = [facts for facts in self.containers if facts.pod is not pod]
