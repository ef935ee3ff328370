"""A pod from RunPodSandbox to its removal.

Run: name -> directories -> pinned namespaces -> network -> files -> /dev/shm -> record -> published. Every step that
leaves something behind registers its undoing on one Rollback before the next begins; the record comes last, so a pod is
either complete or, after a crash, a directory without a record, which recovery takes apart by the same functions.

Stop: "stopped" recorded -> containers -> network -> namespaces -> shm -> "released" recorded. The first comes first so
that a container whose creation ends meanwhile is not left in a pod that has nothing any more. Each step is idempotent and
none depends on what an earlier stop managed to do, so a stop that failed midway is simply repeated.
"""

import logging
import os
import shutil
import time
from dataclasses import replace
from functools import partial

from crid import trace
from crid.cri import api_pb2 as cri
from crid.errors import UnavailableError
from crid.lifecycle import labels, log_links, namespaces
from crid.lifecycle.container import ContainerLifecycle
from crid.lifecycle.creation_time import creation_time
from crid.lifecycle.inflight import Inflight
from crid.lifecycle.parts import Parts
from crid.lifecycle.pod_network import give_up, pod_network, port_mappings
from crid.lifecycle.resources import update_sandbox
from crid.lifecycle.retries import sandbox_made_by
from crid.lifecycle.spec_inputs import workload_host
from crid.lifecycle.validate import require_pod, require_pod_limits
from crid.linux import affinity, pid_namespace
from crid.linux.boot import boot_id
from crid.log import fields
from crid.model import ids
from crid.model.mount import Mount
from crid.model.sandbox import PodSandbox, SandboxMetadata, SandboxStatus, pause_report
from crid.net import dns
from crid.net.plugin import default_resolv_conf
from crid.oci.spec import asked
from crid.oci.spec.policy import Policy
from crid.oci.spec.userns_request import requested
from crid.tasks import KeyedLock, Rollback

logger = logging.getLogger(__name__)

SHM_SIZE = 64 * 1024 * 1024
"""Bytes of a pod's /dev/shm, as Docker and CRI-O have it."""


class SandboxLifecycle:
    """The verbs of a pod. Each is safe to call again, concurrently and after a failure."""

    def __init__(self, parts: Parts, containers: ContainerLifecycle) -> None:
        self._parts = parts
        self._containers = containers
        self._creating: Inflight[PodSandbox] = Inflight(parts.supervisor, "RunPodSandbox")
        self._stopping: Inflight[None] = Inflight(parts.supervisor, "StopPodSandbox")
        self._removing: Inflight[None] = Inflight(parts.supervisor, "RemovePodSandbox")
        self._locks = KeyedLock()
        self._resizing = KeyedLock()

    async def run(self, config: cri.PodSandboxConfig, runtime_handler: str) -> PodSandbox:
        """Create the pod and return it, ready for containers; a repeated request gets the pod of the first.

        Raises InvalidArgumentError for a contradictory config or an unknown handler, AlreadyExistsError if the pod's
        name is taken, and what the network raises. Whatever it raises, nothing of the pod is left.
        """
        handler = self._parts.runtime.resolve(runtime_handler)
        host = workload_host(self._parts.hosts[handler], config)
        require_pod(config, host, self._parts.hostname)
        self._parts.cgroups.check_parent(config.linux.cgroup_parent, host.policy.min_memory)
        port_mappings(config)
        metadata = config.metadata
        name = ids.sandbox_name(metadata.name, metadata.namespace, metadata.uid, metadata.attempt)
        if (made := sandbox_made_by(self._parts, name, config, runtime_handler)) is not None:
            return made
        request = config.SerializeToString(deterministic=True) + runtime_handler.encode()
        return await self._creating.run(name, request, lambda: self._run(name, config, runtime_handler))

    async def _run(self, name: str, config: cri.PodSandboxConfig, runtime_handler: str) -> PodSandbox:
        identifier = ids.new_id()
        reservation = self._parts.sandbox_names.reserve(name, identifier)
        began = time.monotonic()
        async with Rollback() as rollback:
            rollback.undo("giving the pod's name back", lambda: self._parts.sandbox_names.release(name, identifier))
            rollback.undo("giving its ids back", lambda: self._parts.id_ranges.settle(identifier))
            metadata = self._plan(identifier, name, config, runtime_handler)
            metadata = await self._build(metadata, rollback)
            trace.step("pod", "asking plugins")
            planned = PodSandbox(metadata, SandboxStatus())
            rollback.undo("telling plugins of the pod", lambda: self._parts.hooks.pod_failed(planned))
            await self._parts.hooks.run_pod(planned)
            trace.step("pod", "writing its record")
            sandbox = self._parts.state.create_sandbox(metadata, SandboxStatus())
            self._parts.id_ranges.settle(identifier)  # from the next line on the ids are found in the pod itself
            self._parts.sandboxes.add(sandbox)
            trace.step("pod", "being published")
            reservation.making = None
            rollback.commit()
        await self._parts.hooks.pod_created(sandbox)
        logger.info(
            "pod is running%s",
            fields(pod=ids.short(identifier), name=name, ips=",".join(metadata.network.ips), ms=_since(began)),
        )
        return sandbox

    def _plan(self, identifier: str, name: str, config: cri.PodSandboxConfig, runtime_handler: str) -> SandboxMetadata:
        """Decide everything that can be decided without doing anything. Raises what `IdRangeAllocator.allocate` does."""
        userns = requested(config, self._rules(config, runtime_handler))
        idmap = self._parts.id_ranges.allocate(identifier, userns) if userns is not None else None
        host_network = config.linux.security_context.namespace_options.network == cri.NODE
        hostname = config.hostname or (self._parts.hostname if host_network else ids.short(identifier))
        run_directory = self._parts.run_root / "pods" / identifier
        return SandboxMetadata(
            id=identifier,
            name=name,
            config=config,
            runtime_handler=runtime_handler,
            created_at=creation_time(self._parts, config.metadata),
            directory=self._parts.state.sandbox_directory(identifier),
            run_directory=run_directory,
            hostname=hostname,
            cgroup_parent=self._parts.cgroups.parent(config.linux.cgroup_parent, identifier),
            namespaces=namespaces.plan(config, run_directory, idmap),
            idmap=idmap,
            boot=boot_id(),
        )

    async def _build(self, metadata: SandboxMetadata, rollback: Rollback) -> SandboxMetadata:
        """Make what `metadata` plans and return it with what the network added."""
        trace.step("pod", "making its directories")
        for directory in (metadata.directory, metadata.run_directory):
            rollback.undo("removing the pod's directories", partial(shutil.rmtree, directory, ignore_errors=True))
            directory.mkdir(mode=0o711, parents=True)
        trace.step("pod", "limiting its cgroup")
        rollback.undo("removing the pod's cgroup", lambda: self._parts.cgroups.remove_parent(metadata))
        files = asked.cgroup_files(self._rules(metadata.config, metadata.runtime_handler), metadata.config.annotations)
        await self._parts.cgroups.prepare(metadata, files)
        trace.step("pod", "creating its namespaces")
        rollback.undo("unpinning namespaces", partial(namespaces.unpin, self._parts, metadata))
        await namespaces.pin(self._parts, metadata)
        if metadata.namespaces.net:
            trace.step("pod", "setting up its network")
            network = pod_network(metadata)
            rollback.undo("releasing the network", lambda: give_up(self._parts, network))
            metadata = replace(metadata, network=await self._parts.network.attach(network))
        trace.step("pod", "writing its files")
        self._write_files(metadata)
        if metadata.namespaces.ipc:
            shm = str(metadata.shm_path)
            rollback.undo("unmounting shm", lambda: self._parts.kernel.unmount_all_below(shm))
            trace.step("pod", "mounting its shm")
            self._mount_shm(metadata)
        if metadata.config.linux.security_context.namespace_options.pid == cri.POD:
            trace.step("pod", "starting its pause process")
            metadata = await self._start_pause(metadata, rollback)
        return metadata

    def _rules(self, config: cri.PodSandboxConfig, runtime_handler: str) -> Policy:
        """Return what the configuration allows to such a pod."""
        return workload_host(self._parts.hosts[self._parts.runtime.resolve(runtime_handler)], config).policy

    def _mount_shm(self, metadata: SandboxMetadata) -> None:
        metadata.shm_path.mkdir(mode=0o1777)
        idmap = metadata.idmap
        owner = (f"uid={idmap.root[0]}", f"gid={idmap.root[1]}") if idmap else ()
        rules = self._rules(metadata.config, metadata.runtime_handler)
        size = asked.shm_size(rules, metadata.config.annotations) or SHM_SIZE
        options = ("nosuid", "nodev", "noexec", "mode=1777", f"size={size}", *owner)
        self._parts.kernel.perform(Mount(target=str(metadata.shm_path), source="shm", kind="tmpfs", options=options))

    def _write_files(self, metadata: SandboxMetadata) -> None:
        host_text = default_resolv_conf().read_text(errors="replace") if default_resolv_conf().exists() else ""
        metadata.resolv_conf.write_text(dns.resolv_conf(metadata.config.dns_config, host_text))
        metadata.hostname_file.write_text(metadata.hostname + "\n")
        if metadata.namespaces.net:
            metadata.hosts_file.write_text(dns.hosts(metadata.hostname, metadata.network.ips))
        else:
            shutil.copyfile("/etc/hosts", metadata.hosts_file)
        idmap = metadata.idmap
        for path in (metadata.resolv_conf, metadata.hostname_file, metadata.hosts_file):
            path.chmod(0o644)
            if idmap is not None:
                os.chown(path, *idmap.root)

    async def _start_pause(self, metadata: SandboxMetadata, rollback: Rollback) -> SandboxMetadata:
        cgroups = self._parts.cgroups
        rollback.undo("removing the cgroup of its pause process", lambda: cgroups.remove_pause(metadata))
        bears = labels.of(self._parts, metadata, cri.ContainerConfig())  # as a container of which nothing is said
        try:
            process = await pid_namespace.start_pause(
                self._parts.pause_program,
                pause_report(metadata.run_directory, metadata.boot),
                namespaces=metadata.namespaces,
                user=metadata.namespaces.user,
                cgroup_procs=cgroups.pause_procs(metadata),
                process_label=bears.process if bears else "",
                mount_label=bears.mount if bears else "",
            )
        except OSError as error:
            raise UnavailableError(f"pod {metadata.name}: cannot start its pause process: {error}") from error
        rollback.undo("stopping the pause process", lambda: pid_namespace.stop_pause(process))
        trace.step("pod", "placing its pause process")
        await cgroups.place_pause(metadata, process)
        affinity.restrict(process.pid, self._parts.tuning.infra_cpus)
        return replace(metadata, pause=process)

    async def update_resources(
        self, identifier: str, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        """Take note of a pod's new limits, all or none. Raises NotFoundError, and as `crid.lifecycle.resources` does."""
        sandbox = self._parts.sandboxes.get(identifier)
        await self._parts.supervisor.run(
            self._update_resources(sandbox, overhead, resources), f"UpdatePodSandboxResources {sandbox.id}"
        )

    async def _update_resources(
        self, sandbox: PodSandbox, overhead: cri.LinuxContainerResources, resources: cri.LinuxContainerResources
    ) -> None:
        require_pod_limits(overhead, resources)  # no plugin is asked about what cannot be
        async with self._resizing.hold(sandbox.id):
            trace.step("pod update", "asking plugins")
            await self._parts.hooks.update_pod(sandbox, overhead, resources)
            trace.step("pod update", "setting its limits")
            await update_sandbox(self._parts, sandbox, overhead, resources)
            await self._parts.hooks.pod_updated(sandbox)

    async def stop(self, identifier: str) -> None:
        """Stop the pod's containers, then release its network and namespaces. Does nothing for an unknown or stopped pod.

        A repeated request joins the running one.
        """
        sandbox = self._parts.sandboxes.find(identifier)
        if sandbox is not None:
            await self._stopping.run(sandbox.id, b"", lambda: self._stop(sandbox))

    async def _stop(self, sandbox: PodSandbox) -> None:
        async with self._locks.hold(sandbox.id):
            if not sandbox.status.ready and sandbox.status.network_released:
                return
            now = time.time_ns()
            trace.step("pod stop", "noting that it stops")
            self._parts.state.record_sandbox(sandbox, lambda status: replace(status, stopped_at=status.stopped_at or now))
            trace.step("pod stop", "stopping its containers")
            await self._containers.stop_all(sandbox.id)
            trace.step("pod stop", "telling plugins")
            await self._parts.hooks.pod_stopped(sandbox)
            await release(self._parts, sandbox.metadata)
            trace.step("pod stop", "noting that it is stopped")
            self._parts.state.record_sandbox(sandbox, lambda status: replace(status, network_released=True))
            trace.step("pod stop", "ending")
        logger.info("pod is stopped%s", fields(pod=ids.short(sandbox.id), name=sandbox.metadata.name))

    async def remove(self, identifier: str) -> None:
        """Stop the pod if need be, remove its containers and everything it kept. Does nothing for an unknown pod.

        A repeated request joins the running one.
        """
        sandbox = self._parts.sandboxes.find(identifier)
        if sandbox is not None:
            await self._removing.run(sandbox.id, b"", lambda: self._remove(sandbox))

    async def _remove(self, sandbox: PodSandbox) -> None:
        await self._stop(sandbox)
        async with self._locks.hold(sandbox.id):
            if self._parts.sandboxes.find(sandbox.id) is None:
                return
            trace.step("pod removal", "removing its containers")
            await self._containers.remove_all(sandbox.id)
            log_links.remove_all(sandbox.metadata)
            trace.step("pod removal", "removing its cgroup")
            await self._parts.cgroups.remove_parent(sandbox.metadata)
            await discard(self._parts, sandbox.id)
            trace.step("pod removal", "giving its name back")
            self._parts.sandboxes.delete(sandbox.id)
            self._parts.sandbox_names.release(sandbox.metadata.name, sandbox.id)
            await self._parts.hooks.pod_removed(sandbox)
        logger.info("pod is removed%s", fields(pod=ids.short(sandbox.id), name=sandbox.metadata.name))


async def release(parts: Parts, metadata: SandboxMetadata) -> None:
    """Give back what a pod holds while it is ready: network, pause process, namespaces, shm. Idempotent."""
    if metadata.pause is not None:
        trace.step("pod stop", "stopping its pause process")
        await pid_namespace.stop_pause(metadata.pause)
        await parts.cgroups.remove_pause(metadata)
    if metadata.namespaces.net:
        trace.step("pod stop", "releasing its network")
        await parts.network.detach(pod_network(metadata))
    trace.step("pod stop", "unpinning its namespaces")
    await namespaces.unpin(parts, metadata)
    trace.step("pod stop", "unmounting its shm")
    parts.kernel.unmount_all_below(str(metadata.run_directory))


async def discard(parts: Parts, identifier: str) -> None:
    """Remove what is left of a stopped pod, its directories last. Idempotent; needs no record, so recovery uses it for
    half-made pods too."""
    run_directory = parts.run_root / "pods" / identifier
    if (pause := pid_namespace.reported(pause_report(run_directory, boot_id()))) is not None:
        leaf = parts.cgroups.hierarchy.path_of(pause.pid)
        await pid_namespace.stop_pause(pause)
        await parts.cgroups.remove_stray_pause(identifier, leaf or "")
    trace.step("pod removal", "removing its run directory")
    parts.kernel.unmount_all_below(str(run_directory))
    shutil.rmtree(run_directory, ignore_errors=True)
    trace.step("pod removal", "removing its record")
    parts.state.remove_sandbox(identifier)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
