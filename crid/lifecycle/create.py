"""How a container is put together: name -> root file system -> spec -> process under its monitor -> record -> published.

Everything a spec needs of the machine is gathered here (real paths of mounts, the image's passwd file, devices, profile
files), so that the spec builder itself stays a pure function. Every step that leaves something behind registers its
undoing first; the record comes last.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import CridError, FailedPreconditionError
from crid.lifecycle import given_mounts, host_paths, labels, log_links, seccomp_artifact, spec_inputs, volumes
from crid.lifecycle.creation_time import creation_time
from crid.lifecycle.parts import Parts
from crid.linux.boot import boot_id
from crid.log import fields
from crid.model import ids
from crid.model.container import Container, ContainerMetadata, ContainerStatus
from crid.model.image import Image
from crid.model.sandbox import PodSandbox
from crid.oci.spec import builder, users
from crid.oci.spec.inputs import SpecInputs, Volume
from crid.oci.spec.policy import Policy
from crid.oci.spec.selinux import Labels
from crid.tasks import Rollback

logger = logging.getLogger(__name__)


class ContainerCreation:
    """One CreateContainer."""

    def __init__(self, parts: Parts, sandbox: PodSandbox, config: cri.ContainerConfig, name: str) -> None:
        self._parts = parts
        self._sandbox = sandbox
        self._config = config
        self._name = name
        self._id = ids.new_id()
        self._labels: Labels | None = None
        self._idmap = sandbox.metadata.idmap
        self._volume_images: dict[int, Image] = {}
        self._bundle = bundle_path(parts, self._id)
        self._persist = parts.state.container_directory(self._id)

    async def run(self) -> Container:
        """Create the container and publish it, or leave nothing."""
        parts = self._parts
        if not self._sandbox.status.ready:
            raise FailedPreconditionError(f"pod {self._sandbox.id} is stopped: container {self._name} cannot be created in it")
        image = parts.images.runnable(self._config.image.image)
        namespace = self._sandbox.metadata.config.metadata.namespace
        parts.images.check_policy(image, self._config.image.user_specified_image, namespace)
        self._labels = labels.of(parts, self._sandbox.metadata, self._config)
        inputs = await self._checked_inputs(image)
        self._volume_images = volumes.images(parts, self._config, namespace)
        reservation = parts.container_names.reserve(self._name, self._id)
        began = time.monotonic()
        async with Rollback() as rollback:
            rollback.undo("removing the cgroup of the container's pod", self._leave_pod)
            rollback.undo("giving the container's name back", lambda: parts.container_names.release(self._name, self._id))
            rollback.undo("removing the container's directories", lambda: discard(parts, self._id))
            trace.step("container", "making its directories")
            self._bundle.mkdir(mode=0o711, parents=True)
            self._persist.mkdir(mode=0o700)
            trace.step("container", "preparing its root file system")
            mounted = self._mount(image, inputs.sources)
            given = await self._give(image, inputs.host.policy)
            trace.step("container", "building its spec")
            metadata, spec, limits = await self._build_spec(image, spec_inputs.with_rootfs(inputs, mounted, given))
            trace.step("container", "asking plugins")
            planned = Container(metadata, ContainerStatus(resources=limits))
            rollback.undo("telling plugins of the container", lambda: parts.hooks.container_failed(planned))
            adjusted = await parts.hooks.create_container(planned, spec)
            if inputs.asked.link_logs:
                trace.step("container", "linking its log")
                pod = self._sandbox.metadata
                rollback.undo("removing the link to its log", lambda: log_links.remove(pod, self._id))
                log_links.make(pod, self._config, self._id)
            trace.step("container", "writing its spec")
            (self._bundle / "config.json").write_bytes(builder.encode(adjusted.spec))
            metadata = replace(
                metadata,
                cgroup_path=adjusted.spec["linux"]["cgroupsPath"],
                user=users.reported(adjusted.spec["process"]["user"]),  # plugins may add devices with groups
            )
            container = await self._create(metadata, adjusted.resources or limits, rollback)
            rollback.commit()
        trace.step("container", "telling plugins")
        await parts.hooks.container_created(container)
        reservation.making = None
        logger.info(
            "container is created%s",
            fields(
                container=ids.short(self._id),
                pod=ids.short(self._sandbox.id),
                name=self._name,
                image=self._config.image.image,
                ms=round((time.monotonic() - began) * 1000),
            ),
        )
        return container

    async def _checked_inputs(self, image: Image) -> SpecInputs:
        """Refuse what can be seen to be wrong before anything is made; return what the spec needs of the machine."""
        gather = partial(
            spec_inputs.gather,
            self._parts,
            self._sandbox.metadata,
            self._config,
            image,
            container_id=self._id,
            rootfs=self._bundle / "rootfs",
            cgroup_path=self._parts.cgroups.container_path(self._sandbox.metadata, self._id),
            selinux=self._labels,
            seccomp_file=await seccomp_artifact.fetch(self._parts, self._sandbox.metadata, self._config),
        )
        threads = self._parts.volume_calls
        inputs = await self._parts.silent_paths.look(threads, self._config, lambda progress: gather(progress=progress))
        builder.check(inputs)
        volumes.check_propagation(self._config, inputs.sources)
        return inputs

    def _mount(self, image: Image, sources: Mapping[str, str]) -> dict[int, Volume]:
        """Mount the root file system, then the volumes that are crid's to mount."""
        parts, user_namespace = self._parts, self._sandbox.metadata.namespaces.user
        with volumes.mapped_layers(parts, self._bundle, user_namespace) as seen_at:
            self._mount_rootfs(image, seen_at)
            return volumes.mount_all(
                parts,
                self._bundle,
                self._config,
                self._volume_images,
                sources,
                user_namespace=user_namespace,
                seen_at=seen_at,
            )

    async def _give(self, image: Image, rules: Policy) -> dict[str, str]:
        """Make the directories that the container gets unasked; most get none."""
        if not image.process.volumes and not rules.default_mounts:
            return {}
        make = partial(given_mounts.make, rules, image, self._config, idmap=self._idmap)
        return await asyncio.to_thread(make, rootfs=self._bundle / "rootfs", bundle=self._bundle, kept=self._persist)

    def _mount_rootfs(self, image: Image, seen_at: Mapping[Path, Path]) -> None:
        rootfs = self._bundle / "rootfs"
        rootfs.mkdir()
        snapshot = self._parts.images.prepare_rootfs(
            self._id, image, idmap=self._idmap, seen_at=seen_at, volumes=self._volume_images.values()
        )
        # All files of an overlay can bear one label, whatever theirs on disk: mount(8), "context".
        context = (f'context="{self._labels.mount}"',) if self._labels else ()
        mount = replace(snapshot.mount, target=str(rootfs), options=(*snapshot.mount.options, *context))
        self._parts.kernel.perform(mount)

    async def _build_spec(
        self, image: Image, inputs: SpecInputs
    ) -> tuple[ContainerMetadata, dict[str, Any], cri.LinuxContainerResources | None]:
        """Return the container's metadata, its spec, for which everything on the host is there, and its limits if they are
        not the config's."""
        built = builder.build(inputs)
        if inputs.sources:
            make = partial(host_paths.make, inputs.sources)
            await self._parts.volume_calls.run(
                make, timeout=host_paths.PATIENCE, what="mounts.host_path: making what is missing"
            )
        if built.account:
            self._add_account(built.account)
        if self._labels:
            apply = partial(labels.apply, self._sandbox.metadata, inputs, self._labels)
            await self._parts.volume_calls.run(
                apply, timeout=labels.PATIENCE, what=f"container {self._name}: labelling its volumes"
            )
        for warning in built.warnings:
            logger.warning("%s%s", warning, fields(container=ids.short(self._id), name=self._name))
        metadata = ContainerMetadata(
            id=self._id,
            name=self._name,
            sandbox_id=self._sandbox.id,
            config=self._config,
            runtime_handler=self._parts.runtime.resolve(self._sandbox.metadata.runtime_handler),
            image_id=image.id,
            image_ref=image.reference,
            created_at=creation_time(self._parts, self._sandbox.metadata.config.metadata),
            bundle=self._bundle,
            persist_directory=self._persist,
            log_path=self._log_path(),
            cgroup_path=inputs.cgroup_path,
            stop_signal=built.stop_signal,
            user=built.user,
            mounts=built.mounts,
            boot=boot_id(),
        )
        return metadata, built.spec, built.resources

    def _add_account(self, line: str) -> None:
        try:
            spec_inputs.append_account(self._bundle / "rootfs", line)
        except OSError as error:
            logger.warning("the user has no entry in /etc/passwd%s", fields(container=ids.short(self._id), error=error))

    async def _create(
        self,
        metadata: ContainerMetadata,
        resources: cri.LinuxContainerResources | None,
        rollback: Rollback,
    ) -> Container:
        """Have the runtime create the process, then write the record and publish."""
        parts = self._parts
        planned = Container(metadata, ContainerStatus(resources=resources))
        runtime = parts.runtime.of(planned)
        log = Path(metadata.log_path)
        if metadata.log_path and not log.exists():
            rollback.undo("removing the container's log", lambda: log.unlink(missing_ok=True))
        rollback.undo("setting back what was tuned for the container", lambda: parts.tuning.after_end(planned))
        trace.step("container", "making room in its pod's quota")
        parts.tuning.before_creation(planned)
        trace.step("container", "creating its process")
        try:
            created = await runtime.create(planned)
        except CridError as error:
            if self._sandbox.status.ready:
                raise
            raise FailedPreconditionError(f"{self._stopped_meanwhile()}: {error}") from error
        status = ContainerStatus(
            process=created.process, monitor=created.monitor, created_at=metadata.created_at, resources=resources
        )
        planned.publish(status)  # so that the undoing knows the process
        rollback.undo("deleting the container's process", lambda: runtime.delete(planned))
        parts.cgroups.check_devices(planned)
        trace.step("container", "writing its record")
        container = parts.state.create_container(metadata, status)
        if not self._sandbox.status.ready:  # the pod was stopped meanwhile, and its stop has not seen this container
            raise FailedPreconditionError(self._stopped_meanwhile())
        parts.containers.add(container)
        trace.step("container", "being published")
        return container

    async def _leave_pod(self) -> None:
        """Remove the cgroup of a pod that was removed meanwhile, and had to leave it because of this container."""
        if self._parts.sandboxes.find(self._sandbox.id) is None:
            await self._parts.cgroups.remove_parent(self._sandbox.metadata)

    def _stopped_meanwhile(self) -> str:
        return f"pod {self._sandbox.id} was stopped while container {self._name} was created"

    def _log_path(self) -> str:
        directory = self._sandbox.metadata.config.log_directory
        if not directory or not self._config.log_path:
            return ""
        path = Path(directory, self._config.log_path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return str(path)


def bundle_path(parts: Parts, identifier: str) -> Path:
    """Return where the container's OCI bundle lives; it is gone after a reboot."""
    return parts.run_root / "containers" / identifier


async def discard(parts: Parts, identifier: str) -> None:
    """Remove a container's mounts, layers, bundle and records. Idempotent; needs no record, so recovery uses it too."""
    bundle = bundle_path(parts, identifier)
    trace.step("container removal", "unmounting its file systems")
    parts.kernel.unmount_all_below(str(bundle))
    trace.step("container removal", "removing its root file system")
    await parts.images.release_rootfs(identifier)
    trace.step("container removal", "removing its bundle")
    shutil.rmtree(bundle, ignore_errors=True)
    trace.step("container removal", "removing its record")
    parts.state.remove_container(identifier)
