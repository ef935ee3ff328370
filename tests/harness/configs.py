"""PodSandboxConfig and ContainerConfig as the kubelet sends them for an ordinary pod."""

import itertools
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crid.cri import api_pb2 as cri

_serial = itertools.count(1)


def unique(prefix: str) -> str:
    """Return a name that no other call in this process returns."""
    return f"{prefix}-{next(_serial)}"


def namespaces(
    *,
    network: cri.NamespaceMode.ValueType = cri.POD,
    pid: cri.NamespaceMode.ValueType = cri.CONTAINER,
    ipc: cri.NamespaceMode.ValueType = cri.POD,
    target: str = "",
) -> cri.NamespaceOption:
    """Return the kubelet's choice for an ordinary pod, or another."""
    return cri.NamespaceOption(network=network, pid=pid, ipc=ipc, target_id=target)


def security_context(**options: Any) -> cri.LinuxContainerSecurityContext:
    """Return a container's security context with the namespaces of an ordinary pod, unless given, and `options`."""
    return cri.LinuxContainerSecurityContext(**{"namespace_options": namespaces(), **options})


def pod_cgroup(parent: str, uid: str) -> str:
    """Return the cgroup of a pod as a kubelet names it: below `parent`, which is a path or, for systemd, a slice's name."""
    if parent.endswith(".slice"):
        return f"{parent.removesuffix('.slice')}-pod{uid.replace('-', '_')}.slice"
    return f"{parent}/pod{uid}" if parent else ""


def pod_config(
    name: str = "",
    *,
    log_directory: Path | str = "",
    cgroup_parent: str = "",
    namespace: str = "default",
    attempt: int = 0,
    hostname: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    options: cri.NamespaceOption | None = None,
    privileged: bool = False,
    dns: cri.DNSConfig | None = None,
    uid: str = "",
) -> cri.PodSandboxConfig:
    """Return a pod. Its uid is random unless given; below `cgroup_parent` it gets a cgroup of its own.

    Its hostname is its name; in the host's network the kubelet gives it none.
    """
    name = name or unique("pod")
    uid = uid or str(uuid.uuid4())
    own = {"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.uid": uid}
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=uid, namespace=namespace, attempt=attempt),
        hostname=hostname if hostname is not None else "" if options and options.network == cri.NODE else name,
        log_directory=str(log_directory),
        dns_config=dns,
        labels={**own, **(labels or {})},
        annotations={"kubernetes.io/config.source": "api", **(annotations or {})},
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=pod_cgroup(cgroup_parent, uid),
            security_context=cri.LinuxSandboxSecurityContext(
                namespace_options=options or namespaces(),
                privileged=privileged,
                seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault),
            ),
        ),
    )


def container_config(
    image: str,
    command: Sequence[str] = (),
    *,
    name: str = "",
    attempt: int = 0,
    args: Sequence[str] = (),
    envs: Mapping[str, str] | None = None,
    mounts: Sequence[cri.Mount] = (),
    labels: Mapping[str, str] | None = None,
    working_dir: str = "",
    resources: cri.LinuxContainerResources | None = None,
    security: cri.LinuxContainerSecurityContext | None = None,
    stop_signal: cri.Signal.ValueType = cri.SIGNAL_RUNTIME_DEFAULT,
    tty: bool = False,
    stdin: bool = False,
    stdin_once: bool = False,
) -> cri.ContainerConfig:
    """Return a container whose log is NAME/ATTEMPT.log. Without `security` it is what the kubelet asks for by default."""
    name = name or unique("container")
    if security is None:
        security = cri.LinuxContainerSecurityContext(
            namespace_options=namespaces(),
            seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault),
            masked_paths=["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger"],
            readonly_paths=["/proc/bus", "/proc/sys"],
        )
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name, attempt=attempt),
        image=cri.ImageSpec(image=image, user_specified_image=image),
        command=command,
        args=args,
        working_dir=working_dir,
        envs=[cri.KeyValue(key=key, value=value.encode()) for key, value in (envs or {}).items()],
        mounts=mounts,
        labels={"io.kubernetes.container.name": name, **(labels or {})},
        annotations={"io.kubernetes.container.restartCount": str(attempt)},
        log_path=f"{name}/{attempt}.log",
        tty=tty,
        stdin=stdin,
        stdin_once=stdin_once,
        stop_signal=stop_signal,
        linux=cri.LinuxContainerConfig(
            resources=resources or cri.LinuxContainerResources(cpu_shares=2, oom_score_adj=1000),
            security_context=security,
        ),
    )
