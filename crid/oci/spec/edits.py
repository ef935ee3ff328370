"""What files of the host add to a container's spec: devices of the Container Device Interface, and hooks.

Where they come from is told by `cdi` and `hooks`; here stands the common form, and what becomes of a spec by it. A later
edit replaces what an earlier one, the client or the image has set: an environment variable of the same name, a device or a
mount at the same path. Hooks and groups come on top.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crid.model.device import Device

STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""The OCI runtime-spec's moments for hooks."""

Hook = Mapping[str, Any]
"""As in the OCI runtime-spec: `path`, and perhaps `args`, `env` and `timeout` in seconds."""


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device node in the container. What is None is left to `finished`."""

    path: str
    host_path: str
    kind: str = ""
    """The OCI spec's letter: b, c, u, p; empty for whatever the host's node is."""
    numbers: tuple[int, int] | None = None
    """Major and minor; None for those of the host's node."""
    permissions: str = "rwm"
    """For the device cgroup."""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the node can be made without a look at the host's."""
        return bool(self.kind) and (self.numbers is not None or self.kind == "p")


@dataclass(frozen=True, slots=True)
class Edits:
    """One set of edits."""

    env: tuple[str, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    """As in the OCI runtime-spec."""
    hooks: tuple[tuple[str, Hook], ...] = ()
    """Each with its stage."""
    rdt: Mapping[str, Any] | None = None
    """The OCI runtime-spec's `linux.intelRdt`."""
    groups: tuple[int, ...] = ()
    """Supplementary groups of the first process."""


def apply(spec: dict[str, Any], edits: Iterable[Edits]) -> None:
    """Change `spec` by all `edits` in their order. Every device node of them is complete."""
    for each in edits:
        if each == Edits():
            continue
        _environment(spec["process"], each.env)
        for node in each.devices:
            _device(spec, node)
        targets = {mount["destination"] for mount in each.mounts}
        kept = [mount for mount in spec["mounts"] if mount["destination"] not in targets]
        spec["mounts"] = sorted([*kept, *map(dict, each.mounts)], key=lambda mount: mount["destination"].count("/"))
        for stage, hook in each.hooks:
            spec.setdefault("hooks", {}).setdefault(stage, []).append(dict(hook))
        if each.rdt is not None:
            spec["linux"]["intelRdt"] = dict(each.rdt)
        groups = spec["process"]["user"].setdefault("additionalGids", [])
        groups += [group for group in each.groups if group and group not in groups]


def _environment(process: dict[str, Any], entries: Iterable[str]) -> None:
    variables = dict(entry.split("=", 1) for entry in process["env"])
    variables |= dict(entry.split("=", 1) for entry in entries)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]


def _device(spec: dict[str, Any], node: DeviceNode) -> None:
    """Add a node. Where it has no owner of its own it gets the first process's, for which it is."""
    user = spec["process"]["user"]
    made: dict[str, Any] = {"path": node.path, "type": node.kind}
    if node.numbers is not None:
        made["major"], made["minor"] = node.numbers
    if node.mode is not None:
        made["fileMode"] = node.mode
    for name, own in (("uid", node.uid), ("gid", node.gid)):
        if own is not None or user[name]:
            made[name] = user[name] if own is None else own
    linux = spec["linux"]
    linux["devices"] = [*(item for item in linux["devices"] if item["path"] != node.path), made]
    if node.numbers is not None and node.kind in ("b", "c"):
        major, minor = node.numbers
        rule = {"allow": True, "type": node.kind, "major": major, "minor": minor, "access": node.permissions}
        linux["resources"]["devices"].append(rule)


def on_host(edits: Iterable[Edits]) -> Iterable[Device]:
    """Yield the host's nodes behind the devices of `edits`."""
    for each in edits:
        for node in each.devices:
            if node.numbers is not None:
                yield Device(node.host_path, node.kind, *node.numbers)
