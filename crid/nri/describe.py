"""What a plugin is told of a container's OCI spec."""

from collections.abc import Mapping
from typing import Any

from crid.cri import nri_pb2 as nri
from crid.nri.adjust import HOOKS
from crid.nri.resources import describe_limits
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION


def describe(container: nri.Container, spec: Mapping[str, Any]) -> nri.Container:
    """Return a copy of `container`, to which is added what the OCI spec says."""
    made = nri.Container()
    made.CopyFrom(container)
    process, linux = spec.get("process", {}), spec.get("linux", {})
    annotations = {key: value for key, value in spec.get("annotations", {}).items() if key != PROGRAM_ANNOTATION}
    made.annotations.update(annotations)
    made.args.extend(process.get("args", []))
    made.env.extend(item.encode("utf-8", "replace").decode() for item in process.get("env", []))
    for mount in spec.get("mounts", []):
        made.mounts.add(
            destination=mount["destination"],
            type=mount.get("type", ""),
            source=mount.get("source", ""),
            options=mount.get("options", []),
        )
    for limit in process.get("rlimits", []):
        made.rlimits.add(type=limit["type"], hard=limit["hard"], soft=limit["soft"])
    user = process.get("user", {})
    made.user.uid, made.user.gid = user.get("uid", 0), user.get("gid", 0)
    made.user.additional_gids.extend(user.get("additionalGids", []))
    _describe_hooks(made.hooks, spec.get("hooks", {}))
    _describe_linux(made.linux, linux)
    if process.get("oomScoreAdj") is not None:
        made.linux.oom_score_adj.value = process["oomScoreAdj"]
    return made


def _describe_linux(made: nri.LinuxContainer, linux: Mapping[str, Any]) -> None:
    for namespace in linux.get("namespaces", []):
        made.namespaces.add(type=namespace["type"], path=namespace.get("path", ""))
    for device in linux.get("devices", []):
        node = made.devices.add(
            path=device["path"], type=device["type"], major=device.get("major", 0), minor=device.get("minor", 0)
        )
        for name, field in (("fileMode", "file_mode"), ("uid", "uid"), ("gid", "gid")):
            if device.get(name) is not None:
                getattr(node, field).value = device[name]
    made.resources.CopyFrom(describe_limits(linux.get("resources", {})))
    made.cgroups_path = linux.get("cgroupsPath", "")
    made.sysctl.update(linux.get("sysctl", {}))
    if group := linux.get("intelRdt"):
        made.rdt.clos_id.value = group.get("closID", "")


def _describe_hooks(made: nri.Hooks, hooks: Mapping[str, Any]) -> None:
    for field, name in HOOKS.items():
        for hook in hooks.get(name, []):
            added = getattr(made, field).add(path=hook["path"], args=hook.get("args", []), env=hook.get("env", []))
            if hook.get("timeout") is not None:
                added.timeout.value = hook["timeout"]
