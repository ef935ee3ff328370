"""How a pod or a container is written down: two small JSON files, `record.json` for what never changes and `status.json`
for what does, each inside an envelope that names its version and carries a checksum over version, kind and body.

CRI messages are kept as their bytes (base64), so a field that this version of crid does not know survives. Reading is
strict: anything that does not fit raises one of DAMAGE, and the caller sets the object aside.

Whoever changes what a body holds adds a migration: MIGRATIONS[n - 1] makes a body of version n + 1 out of one of version n,
so that any record ever written is read as if it were of today. tests/data/records keeps samples of every version, which
must go on to be read. The envelope itself never changes again, so that a later version's is recognised: such a record is
neither read nor touched.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from crid.cri import api_pb2 as cri
from crid.errors import DataLossError, FailedPreconditionError
from crid.model.container import ContainerMetadata, ContainerStatus
from crid.model.idmap import IdMap, IdRange, IdRanges, Origin
from crid.model.process import ProcessIdentity
from crid.model.sandbox import NamespacePaths, NetworkAttachment, SandboxMetadata, SandboxStatus

Body = dict[str, Any]

DAMAGE = (DataLossError, LookupError, TypeError, ValueError, DecodeError)
"""What reading may raise: `unseal` the first, the functions that take a body the others."""

_BEGINNING = re.compile(rb'\{"version":(\d{1,9}),')


def _from_version_1(kind: str, body: Body) -> Body:
    """Version 1 did not say in which boot an object was made, and knew no artifacts; a pod's first statuses had no limits."""
    if kind in ("pod", "container"):
        return {**body, "boot": ""}
    if kind == "pod-status":
        return {"resources": None, "overhead": None, **body}
    if kind == "image":
        return {**body, "image": {"artifact_type": "", **body["image"]}}
    return body


def _from_version_2(kind: str, body: Body) -> Body:
    """Up to version 2 a pod's map was always the CRI's, and only its config had it."""
    if kind != "pod":
        return body
    config = cri.PodSandboxConfig.FromString(base64.b64decode(body["config"]))
    asked = config.linux.security_context.namespace_options.userns_options
    return {**body, "idmap": _idmap_body(IdMap.from_cri(asked)) if asked.uids else None}


MIGRATIONS: Sequence[Callable[[str, Body], Body]] = (_from_version_1, _from_version_2)

VERSION = 1 + len(MIGRATIONS)
"""What is written today."""


def seal(kind: str, body: Body) -> bytes:
    """Return the file content for `body`."""
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return f'{{"version":{VERSION},"kind":"{kind}","sha256":"{_digest(VERSION, kind, text)}","body":{text}}}\n'.encode()


def unseal(kind: str, content: bytes, where: Path) -> Body:
    """Return the body of the file `where`, migrated to today's version.

    Raises DataLossError for one that is damaged, FailedPreconditionError for one that a newer crid wrote.
    """
    try:
        envelope = json.loads(content)
        body: Body = envelope["body"]
        version, found = envelope["version"], envelope["kind"]
        text = json.dumps(body, separators=(",", ":"), sort_keys=True)
        if type(version) is not int or version < 1:
            raise DataLossError(f"record {where}: there is no version {version!r}")
        if _digest(version, found, text) != envelope["sha256"]:
            raise DataLossError(f"record {where}: the checksum does not match")
        if found != kind:
            raise DataLossError(f"record {where}: holds a {found!r}, not a {kind!r}")
        if version > VERSION:
            raise FailedPreconditionError(
                f"record {where}: is of version {version}, of a newer crid; this one knows up to {VERSION} and leaves it alone"
            )
        for migrate in MIGRATIONS[version - 1 :]:
            body = migrate(kind, body)
    except (ValueError, KeyError, TypeError, RecursionError, DecodeError) as error:
        raise DataLossError(f"record {where}: not a record: {error!r}") from error
    return body


def claims_newer(beginning: bytes) -> bool:
    """Whether a file that begins so may be of a newer crid: for a look that costs little. `unseal` knows for certain."""
    match = _BEGINNING.match(beginning)
    return match is not None and int(match[1]) > VERSION


def _digest(version: int, kind: str, text: str) -> str:
    """Version 1's covers the body alone."""
    covered = text if version == 1 else f"{version} {kind} {text}"
    return hashlib.sha256(covered.encode()).hexdigest()


def _encode(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def _encode_resources(resources: cri.LinuxContainerResources | None) -> str | None:
    return None if resources is None else _encode(resources)


def _resources(text: str | None) -> cri.LinuxContainerResources | None:
    return None if text is None else cri.LinuxContainerResources.FromString(base64.b64decode(text))


def _process(value: list[int] | None) -> ProcessIdentity | None:
    return None if value is None else ProcessIdentity(value[0], value[1])


def _pair(process: ProcessIdentity | None) -> list[int] | None:
    return None if process is None else [process.pid, process.start_time]


def _idmap_body(idmap: IdMap | None) -> Body | None:
    if idmap is None:
        return None
    return {
        kind: [[each.inside, each.host, each.length, each.origin.value] for each in mapped.ranges]
        for kind, mapped in (("users", idmap.users), ("groups", idmap.groups))
    }


def _idmap(body: Body | None) -> IdMap | None:
    if body is None:
        return None
    users, groups = (
        IdRanges(tuple(IdRange(host, length, inside, Origin(origin)) for inside, host, length, origin in body[kind]))
        for kind in ("users", "groups")
    )
    return IdMap(users, groups)


def sandbox_metadata_body(metadata: SandboxMetadata) -> Body:
    """Return what `record.json` of a pod holds."""
    return {
        "id": metadata.id,
        "name": metadata.name,
        "config": _encode(metadata.config),
        "runtime_handler": metadata.runtime_handler,
        "created_at": metadata.created_at,
        "run_directory": str(metadata.run_directory),
        "hostname": metadata.hostname,
        "cgroup_parent": metadata.cgroup_parent,
        "namespaces": [metadata.namespaces.net, metadata.namespaces.ipc, metadata.namespaces.uts, metadata.namespaces.user],
        "ips": list(metadata.network.ips),
        "interface": metadata.network.interface,
        "pause": _pair(metadata.pause),
        "idmap": _idmap_body(metadata.idmap),
        "boot": metadata.boot,
    }


def sandbox_metadata(body: Body, directory: Path) -> SandboxMetadata:
    """Return the metadata that `sandbox_metadata_body` wrote below `directory`. Raises one of DAMAGE."""
    return SandboxMetadata(
        id=body["id"],
        name=body["name"],
        config=cri.PodSandboxConfig.FromString(base64.b64decode(body["config"])),
        runtime_handler=body["runtime_handler"],
        created_at=body["created_at"],
        directory=directory,
        run_directory=Path(body["run_directory"]),
        hostname=body["hostname"],
        cgroup_parent=body["cgroup_parent"],
        namespaces=NamespacePaths(*body["namespaces"]),
        network=NetworkAttachment(tuple(body["ips"]), body["interface"]),
        pause=_process(body["pause"]),
        idmap=_idmap(body["idmap"]),
        boot=body["boot"],
    )


def sandbox_status_body(status: SandboxStatus) -> Body:
    """Return what `status.json` of a pod holds."""
    return {
        "stopped_at": status.stopped_at,
        "network_released": status.network_released,
        "resources": _encode_resources(status.resources),
        "overhead": _encode_resources(status.overhead),
    }


def sandbox_status(body: Body) -> SandboxStatus:
    """Return the status that `sandbox_status_body` wrote. Raises one of DAMAGE."""
    return SandboxStatus(
        stopped_at=body["stopped_at"],
        network_released=body["network_released"],
        resources=_resources(body["resources"]),
        overhead=_resources(body["overhead"]),
    )


def container_metadata_body(metadata: ContainerMetadata) -> Body:
    """Return what `record.json` of a container holds."""
    return {
        "id": metadata.id,
        "name": metadata.name,
        "sandbox_id": metadata.sandbox_id,
        "config": _encode(metadata.config),
        "runtime_handler": metadata.runtime_handler,
        "image_id": metadata.image_id,
        "image_ref": metadata.image_ref,
        "created_at": metadata.created_at,
        "bundle": str(metadata.bundle),
        "log_path": metadata.log_path,
        "cgroup_path": metadata.cgroup_path,
        "stop_signal": metadata.stop_signal,
        "user": _encode(metadata.user),
        "mounts": [_encode(mount) for mount in metadata.mounts],
        "boot": metadata.boot,
    }


def container_metadata(body: Body, directory: Path) -> ContainerMetadata:
    """Return the metadata that `container_metadata_body` wrote below `directory`. Raises one of DAMAGE."""
    return ContainerMetadata(
        id=body["id"],
        name=body["name"],
        sandbox_id=body["sandbox_id"],
        config=cri.ContainerConfig.FromString(base64.b64decode(body["config"])),
        runtime_handler=body["runtime_handler"],
        image_id=body["image_id"],
        image_ref=body["image_ref"],
        created_at=body["created_at"],
        bundle=Path(body["bundle"]),
        persist_directory=directory,
        log_path=body["log_path"],
        cgroup_path=body["cgroup_path"],
        stop_signal=body["stop_signal"],
        user=cri.ContainerUser.FromString(base64.b64decode(body["user"])),
        mounts=tuple(cri.Mount.FromString(base64.b64decode(mount)) for mount in body["mounts"]),
        boot=body["boot"],
    )


def container_status_body(status: ContainerStatus) -> Body:
    """Return what `status.json` of a container holds."""
    return {
        "process": _pair(status.process),
        "monitor": _pair(status.monitor),
        "created_at": status.created_at,
        "started_at": status.started_at,
        "finished_at": status.finished_at,
        "exit_code": status.exit_code,
        "paused": status.paused,
        "oom_killed": status.oom_killed,
        "reason": status.reason,
        "message": status.message,
        "resources": _encode_resources(status.resources),
    }


def container_status(body: Body) -> ContainerStatus:
    """Return the status that `container_status_body` wrote. Raises one of DAMAGE."""
    return ContainerStatus(
        process=_process(body["process"]),
        monitor=_process(body["monitor"]),
        created_at=body["created_at"],
        started_at=body["started_at"],
        finished_at=body["finished_at"],
        exit_code=body["exit_code"],
        paused=body["paused"],
        oom_killed=body["oom_killed"],
        reason=body["reason"],
        message=body["message"],
        resources=_resources(body["resources"]),
    )
