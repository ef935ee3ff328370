"""The RPCs about the node itself."""

import asyncio

import crid
from crid.config import Config
from crid.cri import api_pb2 as cri
from crid.lifecycle.parts import Parts
from crid.model import ids
from crid.oci.probe import RuntimeFeatures
from crid.server import translate_pods
from crid.server.status import presentable
from crid.server.typing import Context

RUNTIME_NAME = "crid"
API_VERSION = "v1"


class NodeRpcs:
    """Version, Status, RuntimeConfig, UpdateRuntimeConfig."""

    _parts: Parts
    _config: Config
    _features: dict[str, RuntimeFeatures]

    async def Version(self, request: cri.VersionRequest, context: Context) -> cri.VersionResponse:
        """Say who serves. `version` is that of the kubelet's runtime API, as other runtimes answer."""
        return cri.VersionResponse(
            version="0.1.0",
            runtime_name=RUNTIME_NAME,
            runtime_version=crid.__version__,
            runtime_api_version=API_VERSION,
        )

    async def Status(self, request: cri.StatusRequest, context: Context) -> cri.StatusResponse:
        """Report whether containers can run and whether pods get a network."""
        network = self._parts.network.condition()
        conditions = [
            cri.RuntimeCondition(type="RuntimeReady", status=True),
            cri.RuntimeCondition(
                type="NetworkReady", status=network.ready, reason=network.reason, message=presentable(network.message)
            ),
        ]
        info = {}
        if request.verbose:
            facts: dict[str, object] = {
                "config": {"stateDir": self._config.runroot, "rootDir": self._config.root},
                "sandboxImage": self._config.image.pause_image,
                "defaultRuntime": self._parts.runtime.default,
                "busy": busy(self._parts),
                "cdi": await asyncio.to_thread(self._parts.cdi.report),
                "ociHooks": await asyncio.to_thread(self._parts.oci_hooks.report),
            }
            info = {**translate_pods.verbose(facts), "config": translate_pods.verbose({"config": facts["config"]})["info"]}
        return cri.StatusResponse(
            status=cri.RuntimeStatus(conditions=conditions),
            info=info,
            runtime_handlers=self._handlers(),
            features=cri.RuntimeFeatures(
                supplemental_groups_policy=True,
                mount_options=True,
                user_namespaces_host_network=any(known.user_namespaces for known in self._features.values()),
            ),
        )

    def _handlers(self) -> list[cri.RuntimeHandler]:
        """Return every handler, and the default one a second time under the empty name."""
        names = [("", self._parts.runtime.default), *((name, name) for name in self._parts.runtime.names)]
        return [
            cri.RuntimeHandler(
                name=shown,
                features=cri.RuntimeHandlerFeatures(
                    recursive_read_only_mounts=self._features[name].recursive_read_only,
                    user_namespaces=self._features[name].user_namespaces,
                ),
            )
            for shown, name in names
        ]

    async def RuntimeConfig(self, request: cri.RuntimeConfigRequest, context: Context) -> cri.RuntimeConfigResponse:
        """Tell the kubelet which cgroup driver to use."""
        driver = cri.SYSTEMD if self._config.runtime.cgroup_manager == "systemd" else cri.CGROUPFS
        return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=driver))

    async def UpdateRuntimeConfig(
        self, request: cri.UpdateRuntimeConfigRequest, context: Context
    ) -> cri.UpdateRuntimeConfigResponse:
        """Take note of the pod CIDR, for CNI plugins that want the capability ipRanges."""
        if cidr := request.runtime_config.network_config.pod_cidr:
            self._parts.network.use_ranges(cidr.split(","))
        return cri.UpdateRuntimeConfigResponse()


def busy(parts: Parts) -> list[str]:
    """Return the ids of the pods and containers that are being worked on: what there is of them is on its way."""
    making = [
        reservation.holder for names in (parts.sandbox_names, parts.container_names) for reservation in names.unfinished()
    ]
    working = [word for name in parts.supervisor.working() for word in name.split() if ids.is_id(word)]
    return sorted({*making, *working})
