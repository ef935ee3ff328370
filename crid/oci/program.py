"""The OCI runtime as a program: where it is, how it is called, and what its failures mean.

crun and runc share their command line (runc's man pages are the reference), not their words. A failed verb is therefore
classified by asking the runtime for the container's state, never by matching its message; the message is for people and
is passed on as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crid.errors import CridError, DeadlineExceededError, FailedPreconditionError, NotFoundError, UnavailableError
from crid.linux import process
from crid.model.ids import short
from crid.oci.runtime import Observed

VERB_TIMEOUT = 120.0
"""Seconds for a verb that only asks or tells the kernel something. A host under heavy load may need many of them."""


@dataclass(frozen=True, slots=True)
class RuntimeProgram:
    """One configured runtime and its monitor. Sizes are bytes, timeouts seconds."""

    name: str
    path: Path
    root: Path
    """The runtime's own state directory (`--root`)."""
    monitor: Path
    systemd_cgroup: bool = False
    log_size_max: int = -1
    """Size at which the monitor starts a log file anew; negative: never."""
    create_timeout: float = 240.0
    stop_timeout: float = 30.0
    """How long a stop waits for the end of a container that it has killed."""
    no_pivot: bool = False
    """Whether containers' roots are moved into place instead of pivoted: for a host that runs from its initial ramdisk."""
    sync_log: bool = True
    """Whether the monitor flushes the log to the disk at the container's end."""
    journald: bool = False
    """Whether the monitor writes to the journal, too."""
    monitor_environment: Mapping[str, str] = field(default_factory=dict)
    """What the monitor, and the runtime below it, has in its environment beside what all have."""


@dataclass(frozen=True, slots=True)
class RuntimePaths:
    """Directories that the monitors and the daemon share; all exist before the first container is created."""

    exits: Path
    """Where a monitor leaves a file named by the container's id when the container has ended."""
    attach_sockets: Path
    """Where a monitor links `ID -> bundle`, so that the attach socket's name fits into sun_path (108 bytes, unix(7))."""


def environment(source: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `source` that runtimes and monitors need; secrets in the daemon's environment stay with it.

    TZ decides the offset of the timestamps in log files.
    """
    return {name: source[name] for name in ("PATH", "XDG_RUNTIME_DIR", "TZ") if name in source}


class RuntimeCommand:
    """Calls one runtime program."""

    def __init__(self, program: RuntimeProgram, environment: Mapping[str, str]) -> None:
        self.program = program
        self.environment = dict(environment)

    def argv(self, verb: str, *arguments: str) -> list[str]:
        """Return the command line of `verb`."""
        cgroups = ["--systemd-cgroup"] if self.program.systemd_cgroup else []
        return [str(self.program.path), "--root", str(self.program.root), *cgroups, verb, *arguments]

    async def call(
        self, container: str, verb: str, *arguments: str, stdin: bytes = b"", timeout: float = VERB_TIMEOUT
    ) -> process.Completed:
        """Run `verb` with `arguments` and return what it left, whatever its exit code.

        Raises UnavailableError if the runtime cannot be run, DeadlineExceededError after `timeout` seconds; nothing that it
        has begun goes on then.
        """
        try:
            return await process.run(
                self.argv(verb, *arguments),
                timeout=timeout,
                stdin=stdin,
                environment=self.environment,
                new_process_group=True,  # of a runtime that is given up the hooks go, too, and criu
            )
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"container {short(container)}: {self.program.name} {verb} did not end within {timeout:g} s"
            ) from error
        except OSError as error:
            raise UnavailableError(f"container {short(container)}: runtime {self.program.path}: {error}") from error

    async def check(
        self, container: str, verb: str, *arguments: str, stdin: bytes = b"", timeout: float = VERB_TIMEOUT
    ) -> process.Completed:
        """Like `call`, but a non-zero exit code raises NotFoundError where the runtime does not know the container,
        FailedPreconditionError with the runtime's words where it has ended, and CridError with these otherwise."""
        done = await self.call(container, verb, *arguments, stdin=stdin, timeout=timeout)
        if done.exit_code:
            failure = self.failure(container, verb, done)
            if (await self.state(container)).state == "stopped":
                raise FailedPreconditionError(f"{failure} (it has ended)")
            raise failure
        return done

    def failure(self, container: str, verb: str, done: process.Completed) -> CridError:
        """Return the error for a `verb` that ended with a non-zero exit code."""
        words = done.error_text or f"exit code {done.exit_code} without a message"
        return CridError(f"container {short(container)}: {self.program.name} {verb}: {words}")

    async def state(self, container: str) -> Observed:
        """Ask for the container's state. Raises NotFoundError if the runtime does not know it."""
        done = await self.call(container, "state", container)
        if done.exit_code:
            raise NotFoundError(f"container {short(container)}: {self.program.name} does not know it: {done.error_text}")
        try:
            document = json.loads(done.stdout)
            return Observed(state=str(document["status"]), pid=int(document["pid"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CridError(
                f"container {short(container)}: {self.program.name} state: not a runtime-spec state: {error}"
            ) from error
