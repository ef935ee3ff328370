"""AppArmor, as far as a runtime needs it: whether the kernel enforces it, which profiles are loaded, loading one.

The kernel lists its profiles in securityfs. They are loaded by apparmor_parser, which compiles the text: the binary form
differs from kernel to kernel.
"""

from pathlib import Path

from crid.errors import UnavailableError
from crid.linux import process

ENABLED = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = Path("/sys/kernel/security/apparmor/profiles")
PARSER = "apparmor_parser"
LOAD_TIMEOUT = 60.0
"""Seconds for the parser: compiling takes a fraction of one, but this is done while a host boots."""


def enabled(path: Path = ENABLED) -> bool:
    """Whether the kernel enforces AppArmor."""
    try:
        return path.read_text().strip() == "Y"
    except OSError:
        return False


def loaded(path: Path = PROFILES) -> frozenset[str]:
    """Return the names of the loaded profiles. Raises OSError, naming the file, where securityfs is not mounted."""
    # A line is `NAME (MODE)`; a name may itself hold spaces and brackets.
    return frozenset(line.rpartition(" (")[0] for line in path.read_text(errors="surrogateescape").split("\n") if line)


async def load(profile: str) -> None:
    """Compile and load the text `profile`, replacing loaded profiles of the same names.

    Raises UnavailableError with the parser's own words, or if it is not installed.
    """
    # Daemons are often started without /sbin in their PATH.
    program = process.find_program(PARSER) or process.find_program(PARSER, path="/usr/sbin:/sbin")
    if program is None:
        raise UnavailableError(f"{PARSER} is not installed")
    try:
        argv = [str(program), "--replace", "--skip-cache", "--quiet"]
        done = await process.run(argv, stdin=profile.encode(), timeout=LOAD_TIMEOUT)
    except TimeoutError as error:
        raise UnavailableError(f"{program} did not end within {LOAD_TIMEOUT:g} s") from error
    except OSError as error:
        raise UnavailableError(f"{PARSER}: {error}") from error
    if done.exit_code:
        raise UnavailableError(f"{program}: {done.error_text or f'exit code {done.exit_code}'}")
