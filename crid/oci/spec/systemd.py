"""Properties of the systemd scope that the OCI runtime makes for a container (systemd cgroup driver).

runc and crun take them as annotations `org.systemd.property.NAME` whose values are GVariant texts. They settle what a
shutdown of the host does: a scope that comes after crid's service, and after its own monitor's scope, is stopped before
them, so containers end first, with the pod's grace period, and somebody is still there to write down how.
"""

from collections.abc import Mapping

PREFIX = "org.systemd.property."
GRACE_PERIOD_ANNOTATION = "io.kubernetes.pod.terminationGracePeriod"
"""The kubelet's, of containers: seconds."""

SERVICE = "crid.service"
_MAX_SECONDS = 100 * 365 * 86400


def properties(
    cgroup_path: str, container: Mapping[str, str], monitor_scope: str = "", *, cgroup_v2: bool = True
) -> dict[str, str]:
    """Return annotations for a container with these annotations, none if `cgroup_path` is no scope.

    `monitor_scope` is the unit that its monitor runs in, if that has one.
    """
    if cgroup_path.count(":") != 2:
        return {}
    after = ", ".join(f"'{unit}'" for unit in (SERVICE, monitor_scope) if unit)
    found = {"DefaultDependencies": "true", "After": f"[{after}]"}
    if not cgroup_v2:
        # systemd gives a slice a v1 controller when a unit in it first needs that, and then moves all processes below into
        # the slice's own cgroup. runc asks for device rules after the start of the scope: the first container of a slice
        # would lose the cgroup that has them. Said with the start, the slice has the controller before a process is there.
        found["DelegateControllers"] = "['devices']"
    grace = container.get(GRACE_PERIOD_ANNOTATION, "")
    if grace.isascii() and grace.isdigit() and int(grace) <= _MAX_SECONDS:
        found["TimeoutStopUSec"] = f"uint64 {int(grace) * 1_000_000}"
    return {PREFIX + name: value for name, value in found.items()}
