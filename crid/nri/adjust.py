"""What plugins make of a container's OCI spec, one after the other.

Each plugin sees what those before it have made. Two plugins that set the same thing contradict each other, which fails the
creation; one may take away first what the other has set, by the entry's name with a "-" before it. What crid cannot do is
refused, not passed over. Pure: the spec is a document, nothing of the machine is looked at.
Rules: containerd/nri, pkg/runtime-tools/generate and pkg/adaptation; OCI runtime-spec, config.md and config-linux.md.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crid.cri import nri_pb2 as nri
from crid.errors import FailedPreconditionError, InvalidArgumentError, UnimplementedError
from crid.nri.classes import adjust_classes
from crid.nri.owners import Claim, Owners
from crid.nri.resources import adjust_resources
from crid.oci.classes import Classes
from crid.oci.spec import cdi, edits
from crid.oci.spec.edits import Edits
from crid.oci.spec.seccomp import PROGRAM_ANNOTATION

HOOKS = {
    "prestart": "prestart",
    "create_runtime": "createRuntime",
    "create_container": "createContainer",
    "start_container": "startContainer",
    "poststart": "poststart",
    "poststop": "poststop",
}
"""The OCI's names of NRI's lists of hooks."""

REMOVE = "-"

FindDevices = Callable[[Mapping[str, str]], Sequence[Edits]]


class Adjustments:
    """Of one container. `spec` is what has become of it so far; the document given stays as it was.

    `find_devices` returns what gives CDI devices to a container, by their names and who asks for each, or raises CridError.
    `classes` are those of the configuration.
    """

    def __init__(self, container_id: str, spec: Mapping[str, Any], find_devices: FindDevices, classes: Classes) -> None:
        self._cdi = find_devices
        self._classes = classes
        self.spec: dict[str, Any] = copy.deepcopy(dict(spec))
        self.owners = Owners(container_id)
        self.whole = nri.ContainerAdjustment()
        """All adjustments together, for plugins that validate them."""

    def __repr__(self) -> str:
        return f"<Adjustments {self.owners!r}>"

    @property
    def made(self) -> bool:
        """Whether anything was adjusted."""
        return self.whole.ByteSize() > 0

    def apply(self, plugin: str, wanted: nri.ContainerAdjustment) -> None:
        """Do what `plugin` wants. Raises FailedPreconditionError for what another plugin has set or the host cannot have,
        InvalidArgumentError for what contradicts itself, NotFoundError for a device or a class that is not there,
        UnimplementedError for what crid cannot do; the creation fails then."""
        claim = self.owners.claims_of(plugin)
        linux = wanted.linux
        self._annotations(wanted, claim)
        self._mounts(wanted, claim)
        self._environment(wanted, claim)
        self._arguments(wanted, claim)
        self._hooks(wanted)
        self._limits(wanted, claim)
        self._devices(linux, claim)
        self._named_devices(plugin, wanted, claim)
        self._namespaces(linux, claim)
        self._linux_maps(linux, claim)
        self._process(linux, claim)
        self._security(linux, claim)
        if linux.HasField("resources"):
            adjust_resources(self._linux.setdefault("resources", {}), linux.resources, claim)
        adjust_classes(self._linux, linux, self._classes, claim)
        if linux.cgroups_path:
            if {"", ".", ".."} & set(linux.cgroups_path.removeprefix("/").split("/")):
                raise InvalidArgumentError(f"{linux.cgroups_path!r} is no cgroup that a container could have")
            claim(nri.CgroupsPath)
            self._linux["cgroupsPath"] = linux.cgroups_path
        self.whole.MergeFrom(wanted)

    @property
    def _linux(self) -> dict[str, Any]:
        found: dict[str, Any] = self.spec.setdefault("linux", {})
        return found

    @property
    def _process_spec(self) -> dict[str, Any]:
        found: dict[str, Any] = self.spec.setdefault("process", {})
        return found

    def _annotations(self, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        annotations = self.spec.setdefault("annotations", {})
        for key, value in _removals_first(wanted.annotations):
            if PROGRAM_ANNOTATION in (key, key.removeprefix(REMOVE)):
                raise FailedPreconditionError(f"the annotation {PROGRAM_ANNOTATION} is crid's own")
            _set(annotations, key, value, nri.Annotations, claim)

    def _mounts(self, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        for mount in sorted(wanted.mounts, key=lambda mount: not mount.destination.startswith(REMOVE)):
            destination = mount.destination.removeprefix(REMOVE)
            if not destination.startswith("/"):
                raise InvalidArgumentError(f"an NRI mount's destination {destination!r} is not absolute")
            kept = [item for item in self.spec.get("mounts", []) if item["destination"] != destination]
            self.spec["mounts"] = kept
            if mount.destination.startswith(REMOVE):
                claim.release(nri.Mounts, destination)
                continue
            claim(nri.Mounts, destination)
            kept.append(
                {"destination": destination, "type": mount.type, "source": mount.source, "options": list(mount.options)}
            )

    def _environment(self, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        if not wanted.env:
            return
        environment = dict(item.partition("=")[::2] for item in self._process_spec.get("env", []))
        for key, value in sorted(((item.key, item.value) for item in wanted.env), key=lambda item: item[0][:1] != REMOVE):
            if "=" in key or not key:
                raise InvalidArgumentError(f"{key!r} is no name for an environment variable")
            _set(environment, key, value, nri.Env, claim)
        self._process_spec["env"] = [f"{key}={value}" for key, value in environment.items()]

    def _arguments(self, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        arguments = list(wanted.args)
        if not arguments:
            return
        if arguments[0] == "":
            claim.release(nri.Args)
            arguments = arguments[1:]
        if not arguments:
            raise InvalidArgumentError("a container without arguments cannot be")
        claim(nri.Args)
        self._process_spec["args"] = arguments

    def _hooks(self, wanted: nri.ContainerAdjustment) -> None:
        for field, name in HOOKS.items():
            for hook in getattr(wanted.hooks, field):
                made: dict[str, Any] = {"path": hook.path}
                if hook.args:
                    made["args"] = list(hook.args)
                if hook.env:
                    made["env"] = list(hook.env)
                if hook.HasField("timeout"):
                    made["timeout"] = hook.timeout.value
                self.spec.setdefault("hooks", {}).setdefault(name, []).append(made)

    def _limits(self, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        for limit in wanted.rlimits:
            claim(nri.Rlimits, limit.type)
            kept = [item for item in self._process_spec.get("rlimits", []) if item["type"] != limit.type]
            self._process_spec["rlimits"] = [*kept, {"type": limit.type, "hard": limit.hard, "soft": limit.soft}]

    def _devices(self, linux: nri.LinuxContainerAdjustment, claim: Claim) -> None:
        for device in sorted(linux.devices, key=lambda device: not device.path.startswith(REMOVE)):
            path = device.path.removeprefix(REMOVE)
            kept = [item for item in self._linux.get("devices", []) if item["path"] != path]
            self._linux["devices"] = kept
            if device.path.startswith(REMOVE):
                claim.release(nri.Devices, path)
                continue
            claim(nri.Devices, path)
            made: dict[str, Any] = {"path": path, "type": device.type, "major": device.major, "minor": device.minor}
            for field, name in (("file_mode", "fileMode"), ("uid", "uid"), ("gid", "gid")):
                if device.HasField(field):  # type: ignore[arg-type]  # the stub wants literals
                    made[name] = getattr(device, field).value
            kept.append(made)
            if device.type != "p":  # a pipe is no device to the kernel
                rule = {"allow": True, "type": device.type, "major": device.major, "minor": device.minor, "access": "rwm"}
                self._linux.setdefault("resources", {}).setdefault("devices", []).append(rule)

    def _named_devices(self, plugin: str, wanted: nri.ContainerAdjustment, claim: Claim) -> None:
        asked = {device.name: f"NRI plugin {plugin}" for device in wanted.CDI_devices}
        for name, field in asked.items():
            cdi.check_name(name, field)
            claim(nri.CdiDevices, name)
        edits.apply(self.spec, self._cdi(asked))

    def _namespaces(self, linux: nri.LinuxContainerAdjustment, claim: Claim) -> None:
        for namespace in sorted(linux.namespaces, key=lambda namespace: not namespace.type.startswith(REMOVE)):
            kind = namespace.type.removeprefix(REMOVE)
            kept = [item for item in self._linux.get("namespaces", []) if item["type"] != kind]
            self._linux["namespaces"] = kept
            if namespace.type.startswith(REMOVE):
                claim.release(nri.Namespace, kind)
                continue
            claim(nri.Namespace, kind)
            kept.append({"type": kind, **({"path": namespace.path} if namespace.path else {})})

    def _linux_maps(self, linux: nri.LinuxContainerAdjustment, claim: Claim) -> None:
        for key, value in _removals_first(linux.sysctl):
            _set(self._linux.setdefault("sysctl", {}), key, value, nri.Sysctl, claim)
        for key, device in sorted(linux.net_devices.items(), key=lambda item: item[0][:1] != REMOVE):
            _set(self._linux.setdefault("netDevices", {}), key, {"name": device.name}, nri.LinuxNetDevices, claim)

    def _process(self, linux: nri.LinuxContainerAdjustment, claim: Claim) -> None:
        process = self._process_spec
        if linux.HasField("oom_score_adj"):
            claim(nri.OomScoreAdj)
            process["oomScoreAdj"] = linux.oom_score_adj.value
        if linux.HasField("io_priority"):
            claim(nri.IoPriority)
            kind = nri.IOPrioClass.Name(getattr(linux.io_priority, "class"))
            process["ioPriority"] = {"class": kind, "priority": linux.io_priority.priority}
        if linux.HasField("scheduler"):
            claim(nri.LinuxSched)
            wanted = linux.scheduler
            made: dict[str, Any] = {"policy": nri.LinuxSchedulerPolicy.Name(wanted.policy)}
            made |= {name: getattr(wanted, name) for name in ("nice", "priority", "runtime", "deadline", "period")}
            made["flags"] = [nri.LinuxSchedulerFlag.Name(flag) for flag in wanted.flags]
            process["scheduler"] = {name: value for name, value in made.items() if value}

    def _security(self, linux: nri.LinuxContainerAdjustment, claim: Claim) -> None:
        if linux.HasField("seccomp_policy"):
            claim(nri.SeccompPolicy)
            self._linux["seccomp"] = _seccomp(linux.seccomp_policy)
            self.spec.get("annotations", {}).pop(PROGRAM_ANNOTATION, None)  # compiled from the profile that is replaced
        if linux.HasField("memory_policy"):
            raise UnimplementedError("NRI: memory policies are not supported: no OCI runtime spec before 1.3 has them")


def _seccomp(policy: nri.LinuxSeccomp) -> dict[str, Any]:
    made: dict[str, Any] = {"defaultAction": policy.default_action}
    if policy.HasField("default_errno"):
        made["defaultErrnoRet"] = policy.default_errno.value
    for field, name in (("architectures", "architectures"), ("flags", "flags")):
        if values := list(getattr(policy, field)):
            made[name] = values
    for field, name in (("listener_path", "listenerPath"), ("listener_metadata", "listenerMetadata")):
        if value := getattr(policy, field):
            made[name] = value
    made["syscalls"] = [_syscall(syscall) for syscall in policy.syscalls]
    return made


def _syscall(syscall: nri.LinuxSyscall) -> dict[str, Any]:
    made: dict[str, Any] = {"names": list(syscall.names), "action": syscall.action}
    if syscall.HasField("errno_ret"):
        made["errnoRet"] = syscall.errno_ret.value
    if syscall.args:
        made["args"] = [
            {"index": item.index, "value": item.value, "valueTwo": item.value_two, "op": item.op} for item in syscall.args
        ]
    return made


def _removals_first(entries: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(entries.items(), key=lambda item: not item[0].startswith(REMOVE))


def _set(entries: dict[str, Any], key: str, value: Any, field: nri.Field.ValueType, claim: Claim) -> None:
    """Set one entry of a map, or take it away."""
    name = key.removeprefix(REMOVE)
    if key.startswith(REMOVE):
        claim.release(field, name)
        entries.pop(name, None)
    else:
        claim(field, name)
        entries[name] = value
