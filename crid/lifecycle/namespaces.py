"""A pod's pinned namespaces: which it gets, how they are made, and how they are given back."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError, UnavailableError
from crid.lifecycle.parts import Parts
from crid.linux import affinity
from crid.linux.namespaces import sysctl_path
from crid.model.idmap import IdMap
from crid.model.sandbox import NamespacePaths, SandboxMetadata
from crid.oci.spec.sysctls import with_defaults, within

PATIENCE = 100.0
"""Seconds for making a pod's namespaces, or giving them back: milliseconds as a rule. A kubelet waits two minutes, and so
learns why."""


def plan(config: cri.PodSandboxConfig, run_directory: Path, idmap: IdMap | None) -> NamespacePaths:
    """Return where the namespaces that the pod gets are to be pinned; it has a user namespace if it has an `idmap`."""
    options = config.linux.security_context.namespace_options
    pinned = run_directory / "ns"
    host_network = options.network == cri.NODE
    return NamespacePaths(
        net="" if host_network else str(pinned / "net"),
        ipc="" if options.ipc == cri.NODE else str(pinned / "ipc"),
        uts="" if host_network else str(pinned / "uts"),
        user=str(pinned / "user") if idmap is not None else "",
    )


async def pin(parts: Parts, metadata: SandboxMetadata) -> None:
    """Make the planned namespaces, with the pod's hostname and sysctls in them.

    Raises InvalidArgumentError naming a sysctl whose value the kernel does not take, UnavailableError, DeadlineExceededError.
    """
    pinned = metadata.namespaces
    kinds = [kind for kind, path in (("net", pinned.net), ("ipc", pinned.ipc), ("uts", pinned.uts)) if path]
    if not kinds and not pinned.user:
        return
    directory = metadata.run_directory / "ns"
    directory.mkdir(mode=0o700)
    linux = metadata.config.linux
    defaults = parts.hosts[parts.runtime.resolve(metadata.runtime_handler)].policy.sysctls
    sysctls = with_defaults(linux.sysctls, defaults, linux.security_context.namespace_options)
    hostname = metadata.hostname if pinned.uts else None
    idmap = metadata.idmap
    make: Callable[[], object]
    try:
        if idmap is None:
            make = partial(parts.kernel.pin_namespaces, directory, kinds, hostname=hostname, sysctls=sysctls)
        else:
            mapped = partial(
                parts.kernel.pin_user_namespace,
                parts.userns_program,
                directory,
                kinds,
                idmap,
                hostname=hostname,
                sysctls=within(sysctls, idmap),
            )
            make = partial(affinity.within, parts.tuning.infra_cpus, mapped)
        await parts.namespace_calls.run(make, timeout=PATIENCE, what=f"pod {metadata.name}: creating its namespaces")
    except OSError as error:
        if name := next((name for name in linux.sysctls if sysctl_path(name) in str(error)), ""):
            raise InvalidArgumentError(f"linux.sysctls: {name}={linux.sysctls[name]!r}: {error.strerror or error}") from error
        raise UnavailableError(f"pod {metadata.name}: cannot create its namespaces: {error}") from error


async def unpin(parts: Parts, metadata: SandboxMetadata) -> None:
    """Give the namespaces back. Idempotent. Raises OSError, DeadlineExceededError."""
    pinned = metadata.namespaces

    def give_back() -> None:
        for path in (pinned.net, pinned.ipc, pinned.uts, pinned.user):
            if path:
                parts.kernel.unpin(path)

    what = f"pod {metadata.name}: unpinning its namespaces"
    await parts.namespace_calls.run(give_back, timeout=PATIENCE, what=what)
