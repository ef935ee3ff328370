"""The first process: arguments, environment, working directory, terminal, OOM score.

Arguments follow the rule of Docker and Kubernetes: the CRI's command replaces the image's entrypoint and, with it, the
image's cmd; the CRI's args replace the image's cmd alone.

The environment is the configuration's, the image's on top, then the CRI's, then what every program expects: PATH,
HOSTNAME, HOME and, with a terminal, TERM. Since Kubernetes 1.34 a value is bytes; those that are no UTF-8 become
surrogate escapes (PEP 383) here, and `builder.encode` decides what a JSON document can say of them.
"""

from collections.abc import Iterable

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.model.image import ImageProcess
from crid.oci.spec import absolute
from crid.oci.spec.policy import Ulimit

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OOM_SCORE_RANGE = range(-1000, 1001)


def arguments(config: cri.ContainerConfig, image: ImageProcess) -> list[str]:
    """Return the argument vector. Raises InvalidArgumentError if neither the config nor the image names a program."""
    from_image = [*image.entrypoint, *(config.args or image.cmd)]
    argv = [*config.command, *config.args] if config.command else from_image
    if not argv:
        raise InvalidArgumentError("command: neither the container nor its image names a command")
    if not argv[0]:
        raise InvalidArgumentError("command: the program's name is empty")
    for argument in argv:
        _refuse_nul(argument, "command")
    return argv


def environment(
    config: cri.ContainerConfig, image: ImageProcess, hostname: str, home: str, defaults: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the environment as `NAME=value` strings, and warnings about entries of the image that were left out.

    Raises InvalidArgumentError for a name that cannot be one.
    """
    variables, malformed = _image_environment(image.env)
    variables = dict(entry.split("=", 1) for entry in defaults) | variables
    for index, item in enumerate(config.envs):
        where = f"envs[{index}]"
        if not item.key or "=" in item.key:
            raise InvalidArgumentError(f"{where}.key: {item.key[:64]!r} is no name of an environment variable")
        value = item.value.decode("utf-8", "surrogateescape")
        _refuse_nul(item.key + value, where)
        variables[item.key] = value
    variables.setdefault("PATH", DEFAULT_PATH)
    variables.setdefault("HOSTNAME", hostname)
    variables.setdefault("HOME", home)
    if config.tty:
        variables.setdefault("TERM", "xterm")
    if "\n" in variables["HOME"]:
        # Programs that append an entry for the user to /etc/passwd would write a second line of the caller's choice
        # (CVE-2022-4318).
        raise InvalidArgumentError("envs: HOME contains a line feed")
    warnings = [f"environment entries of the image left out, since they have no '=': {len(malformed)}"] if malformed else []
    return [f"{name}={value}" for name, value in variables.items()], warnings


def working_directory(config: cri.ContainerConfig, image: ImageProcess) -> str:
    """Return the absolute working directory. Raises InvalidArgumentError if the config's is relative."""
    directory = config.working_dir or image.working_dir or "/"
    if not config.working_dir and not directory.startswith("/"):
        directory = f"/{directory}"  # Images built long ago have relative ones; Docker takes them from the root.
    return absolute.require(directory, "working_dir")


def oom_score_adjustment(resources: cri.LinuxContainerResources, own: int, can_lower: bool) -> tuple[int, str]:
    """Return the process's oom_score_adj, and a warning or "".

    Without CAP_SYS_RESOURCE nobody may go below the value that they have themselves, proc_pid_oom_score_adj(5): the
    container then gets the daemon's, the lowest that it can have.
    """
    wanted = resources.oom_score_adj
    if wanted not in OOM_SCORE_RANGE:
        raise InvalidArgumentError(f"resources.oom_score_adj: {wanted} is not between -1000 and 1000")
    if wanted >= own or can_lower:
        return wanted, ""
    return own, f"oom_score_adj {wanted} raised to {own}: the daemon lacks CAP_SYS_RESOURCE"


def limits(ulimits: Iterable[Ulimit]) -> list[dict[str, object]]:
    """Return the OCI spec's `process.rlimits`."""
    return [{"type": f"RLIMIT_{item.name.upper()}", "soft": item.soft, "hard": item.hard} for item in ulimits]


def _image_environment(entries: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return an image's variables, later entries winning, and the entries that are none."""
    variables, malformed = {}, []
    for entry in entries:
        name, separator, value = entry.partition("=")
        if name and separator and "\0" not in entry:
            variables[name] = value
        else:
            malformed.append(entry)
    return variables, malformed


def _refuse_nul(text: str, field: str) -> None:
    """Refuse what C strings cannot hold."""
    if "\0" in text:
        raise InvalidArgumentError(f"{field}: contains a NUL byte")
