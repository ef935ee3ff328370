"""What handlers' containers may get: bad values of the configuration are refused by their key when the daemon starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crid.assembly import hosts
from crid.config import Config, ImageConfig, RuntimeConfig, RuntimeHandlerConfig
from crid.errors import InvalidArgumentError, UnavailableError
from crid.linux import apparmor
from crid.model.resources import HostResources
from crid.oci.probe import RuntimeFeatures
from crid.oci.spec.policy import Policy


def handler_policy(handler: RuntimeHandlerConfig | None = None, **runtime: Any) -> Policy:
    return hosts.handler_policy(replace(RuntimeConfig(), **runtime), handler or RuntimeHandlerConfig(), "crun", "crun")


def test_the_defaults_are_the_policys() -> None:
    assert replace(handler_policy(), default_mounts=()) == Policy(
        allowed_devices=frozenset({"/dev/fuse", "/dev/net/tun"}), min_memory=500 << 10
    )


@pytest.mark.parametrize(
    ("program", "configured", "least"),
    [("crun", "", 500 << 10), ("runc", "", 12 << 20), ("kata", "", 12 << 20), ("runc", "1MiB", 1 << 20), ("runc", "0", 0)],
)
def test_each_runtime_has_its_least_memory(program: str, configured: str, least: int) -> None:
    """The program's own name counts, whatever the handler is called."""
    handler = RuntimeHandlerConfig(container_min_memory=configured)
    assert hosts.handler_policy(RuntimeConfig(), handler, "fast", program).min_memory == least


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("default_capabilities", ["FLY"]),
        ("default_env", ["A"]),
        ("default_ulimits", ["nofile"]),
        ("default_sysctls", ["vm.swappiness=1"]),
        ("additional_devices", ["/dev/there-is-no-such-device"]),
        ("additional_devices", ["/dev/pts"]),
        ("seccomp_profile", "/nowhere/profile.json"),
        ("privileged_seccomp_profile", "/nowhere/profile.json"),
        ("timezone", "Europe/Atlantis"),
        ("default_mounts_file", "/nowhere/mounts.conf"),
    ],
)
def test_refusals_name_the_key(key: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"crid.runtime.{key}: "):
        handler_policy(**{key: value})


def test_the_default_user_namespace() -> None:
    assert handler_policy().default_user_namespace is None
    found = handler_policy(uid_mappings="0:100000:65536", gid_mappings="0:5:10,70000:70000:1").default_user_namespace
    assert found is not None
    assert (found.users.to_kernel(), found.groups.to_kernel()) == ("0 100000 65536", "0 5 10\n70000 70000 1")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("gid_mappings", {"uid_mappings": "0:1:1"}),
        ("uid_mappings", {"gid_mappings": "0:1:1"}),
        ("uid_mappings", {"uid_mappings": "0:1", "gid_mappings": "0:1:1"}),
        ("gid_mappings", {"uid_mappings": "0:1:1", "gid_mappings": "1:1:1"}),
        ("gid_mappings", {"uid_mappings": "0:1:1", "gid_mappings": "0:1:5,4:9:1"}),
        ("uid_mappings", {"uid_mappings": "0:1:1", "gid_mappings": "0:1:1", "minimum_mappable_uid": 2}),
    ],
)
def test_a_default_user_namespace_that_cannot_be(key: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"crid\.runtime\.{key}: "):
        handler_policy(**values)


def test_refusals_name_the_handlers_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"runtimes\.crun\.container_min_memory: "):
        handler_policy(RuntimeHandlerConfig(container_min_memory="x"))
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_DANCE"}')
    with pytest.raises(InvalidArgumentError, match=r"runtimes\.crun\.seccomp_profile: .*profile\.json"):
        handler_policy(RuntimeHandlerConfig(seccomp_profile=str(profile)))
    profile.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    assert handler_policy(RuntimeHandlerConfig(seccomp_profile=str(profile))).seccomp_default == profile.read_text()


def test_additional_devices_are_looked_up() -> None:
    ((asked, device),) = handler_policy(additional_devices=["/dev/null:/dev/nothing:r"]).additional_devices
    assert (asked.container_path, asked.permissions, device.major, device.minor) == ("/dev/nothing", "r", 1, 3)


async def test_each_handler_has_its_own_policy(tmp_path: Path) -> None:
    handlers = {"a": RuntimeHandlerConfig(allowed_annotations=["x"]), "b": RuntimeHandlerConfig()}
    able = {name: RuntimeFeatures(name, "1", recursive_read_only=name == "b") for name in handlers}
    runtime = replace(RuntimeConfig(), runtimes=handlers)
    config = replace(Config(), runtime=runtime, image=ImageConfig(image_volumes="bind"), runroot=str(tmp_path))
    found = await hosts.gather(config, HostResources(), able)
    assert found["a"].policy.image_volumes == "bind"
    assert Path(found["a"].container_env).read_bytes() == b""
    assert (found["a"].policy.allowed_annotations, found["b"].policy.allowed_annotations) == (("x",), ())
    assert (found["a"].recursive_read_only, found["b"].recursive_read_only) == (False, True)


async def test_the_default_apparmor_profile(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    loaded: list[str] = []

    async def load(text: str) -> None:
        if loaded:
            raise UnavailableError("no parser")
        loaded.append(text)

    monkeypatch.setattr(apparmor, "load", load)
    monkeypatch.setattr(apparmor, "loaded", lambda: frozenset({"theirs"}))
    assert await hosts.default_profile("crid-default") == "crid-default"
    assert "profile crid-default" in loaded[0]
    assert await hosts.default_profile("crid-default") == ""
    assert "no parser" in caplog.text
    assert await hosts.default_profile("unconfined") == ""
    assert await hosts.default_profile("theirs") == "theirs"
    with pytest.raises(InvalidArgumentError, match=r"crid\.runtime\.apparmor_profile: 'other'"):
        await hosts.default_profile("other")


def test_the_environment_of_monitors() -> None:
    runtime = replace(RuntimeConfig(), conmon_env=["A=1"])
    assert hosts.monitor_environment(runtime, RuntimeHandlerConfig(), "crun") == {"A": "1"}
    assert hosts.monitor_environment(runtime, RuntimeHandlerConfig(monitor_env=["B=2=3"]), "crun") == {"B": "2=3"}
    with pytest.raises(InvalidArgumentError, match=r"runtimes\.crun\.monitor_env: "):
        hosts.monitor_environment(runtime, RuntimeHandlerConfig(monitor_env=["B"]), "crun")
