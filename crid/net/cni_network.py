"""One CNI network: a list of plugins run in order, each given the result so far (CNI specification, section 3).

Nothing here chooses networks or remembers attachments. ADD goes forward, DEL backward; whoever calls sees to it that a
DEL follows an ADD that failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crid.errors import CridError, UnavailableError
from crid.net import cni_result
from crid.net.cni_cache import CachedAttachment
from crid.net.cni_config import VERSIONS, NetworkList, plugin_input
from crid.net.cni_exec import Attachment, PluginFailedError, Plugins


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that one plugin may take for a verb."""

    add: float = 220.0
    delete: float = 60.0
    check: float = 30.0
    status: float = 10.0
    collect: float = 30.0


class Verbs:
    """The verbs of the specification for a whole list. All raise what `Plugins.execute` does."""

    def __init__(self, plugins: Plugins, timeouts: Timeouts) -> None:
        self._plugins = plugins
        self._timeouts = timeouts

    async def add(self, request: CachedAttachment) -> dict[str, Any]:
        """Attach, and return the result of the last plugin in the network's version."""
        result: dict[str, Any] | None = None
        for plugin in request.network.plugins:
            document = plugin_input(request.network, plugin, capabilities=request.capabilities, previous=result)
            printed = await self._plugins.execute(plugin.type, "ADD", document, request.attachment, self._timeouts.add)
            try:
                result = cni_result.parse(printed, request.network.version)
            except CridError as error:
                raise UnavailableError(f"CNI plugin {plugin.type}: ADD: {error}") from error
        assert result is not None, "a network has at least one plugin"
        return result

    async def delete(self, cached: CachedAttachment) -> None:
        """Detach. Every plugin is run, whatever the others did; the first failure is raised."""
        network = cached.network
        previous = cached.result if network.at_least("0.4.0") else None
        failures: list[CridError] = []
        for plugin in reversed(network.plugins):
            document = plugin_input(network, plugin, capabilities=cached.capabilities, previous=previous)
            attachment = with_living_namespace(cached.attachment)
            try:
                await self._plugins.execute(plugin.type, "DEL", document, attachment, self._timeouts.delete)
            except CridError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def check(self, cached: CachedAttachment) -> None:
        """See whether the attachment is as its ADD left it. Does nothing where the network does not know the verb."""
        network = cached.network
        if network.disable_check or not network.at_least("0.4.0") or cached.result is None:
            return
        for plugin in network.plugins:
            document = plugin_input(network, plugin, capabilities=cached.capabilities, previous=cached.result)
            await self._plugins.execute(plugin.type, "CHECK", document, cached.attachment, self._timeouts.check)

    async def status(self, network: NetworkList) -> None:
        """Ask each plugin whether it can serve an ADD. Does nothing where the network does not know the verb."""
        if network.at_least("1.1.0"):
            for plugin in network.plugins:
                document = plugin_input(network, plugin)
                await self._plugins.execute(plugin.type, "STATUS", document, Attachment(), self._timeouts.status)

    async def collect(self, network: NetworkList, valid: Sequence[Attachment]) -> None:
        """Have each plugin release what belongs to no attachment of `valid`. Every plugin is run; the first failure is
        raised. Does nothing where the network does not know the verb or does not want it."""
        if network.disable_gc or not network.at_least("1.1.0"):
            return
        known = [{"containerID": item.container_id, "ifname": item.interface} for item in valid]
        failures: list[CridError] = []
        for plugin in network.plugins:
            # The key of the specification, and the one that its first text had and libcni still sends as well.
            document = plugin_input(network, plugin, more={"cni.dev/valid-attachments": known, "cni.dev/attachments": known})
            try:
                await self._plugins.execute(plugin.type, "GC", document, Attachment(), self._timeouts.collect)
            except CridError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def negotiate(self, network: NetworkList) -> NetworkList:
        """Return the network in the newest of its versions that all its plugins speak (verb VERSION).

        Raises UnavailableError naming the plugin that speaks none of them, or that is missing.
        """
        common = set(network.versions)
        for kind in dict.fromkeys(plugin.type for plugin in network.plugins):
            spoken = await self._plugins.versions(kind, self._timeouts.status)
            common &= set(spoken)
            if not common:
                raise UnavailableError(
                    f"CNI plugin {kind}: speaks versions {', '.join(spoken)}, network {network.name} is in"
                    f" {', '.join(network.versions)}"
                )
        return network.in_version(max(common, key=VERSIONS.index))


def with_living_namespace(attachment: Attachment) -> Attachment:
    """Return the attachment without its namespace if that is gone: plugins take nothing for that, but not a path which
    leads to no namespace."""
    try:
        alive = Path(attachment.namespace).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        alive = False
    return attachment if alive else Attachment(attachment.container_id, "", attachment.interface, attachment.arguments)


def is_exhausted(error: CridError) -> bool:
    """Whether a plugin says that no address is left. There is no code for that, so its words must do."""
    words = ("no ip addresses available", "no available ip", "no more ip", "out of addresses", "exhausted")
    return isinstance(error, PluginFailedError) and any(word in str(error).lower() for word in words)
