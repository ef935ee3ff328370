"""Records say what they were told, or that they are damaged; nothing in between."""

import base64
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import DataLossError, FailedPreconditionError
from crid.model.container import ContainerMetadata, ContainerStatus
from crid.model.idmap import IdMap, IdRange, Origin
from crid.model.sandbox import NamespacePaths, NetworkAttachment, SandboxMetadata, SandboxStatus
from crid.store import records
from tests.unit.store import objects, samples

WHERE = Path("/var/lib/crid/pods/x/record.json")
DIRECTORY = Path("/var/lib/crid/x")


def through_the_file(body: dict[str, Any]) -> dict[str, Any]:
    return records.unseal("k", records.seal("k", body), WHERE)


def differences(left: Any, right: Any) -> list[str]:
    """The fields in which two dataclasses differ; messages by their bytes, which hold unknown fields too."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(plain(item) for item in value)
        return value.SerializeToString(deterministic=True) if hasattr(value, "SerializeToString") else value

    return [item.name for item in fields(left) if plain(getattr(left, item.name)) != plain(getattr(right, item.name))]


@given(
    config=objects.sandbox_configs(),
    names=st.tuples(objects.TEXT, objects.TEXT, objects.TEXT),
    created_at=objects.TIMES,
    pinned=st.builds(NamespacePaths, objects.TEXT, objects.TEXT, objects.TEXT),
    network=st.builds(NetworkAttachment, st.lists(objects.TEXT, max_size=2).map(tuple), objects.TEXT),
    pause=objects.PROCESSES,
)
def test_pod(config: cri.PodSandboxConfig, names: tuple[str, str, str], **others: Any) -> None:
    others["namespaces"] = others.pop("pinned")
    name, handler, hostname = names
    metadata = replace(
        objects.sandbox_metadata(DIRECTORY), config=config, name=name, runtime_handler=handler, hostname=hostname, **others
    )
    again = records.sandbox_metadata(through_the_file(records.sandbox_metadata_body(metadata)), DIRECTORY)
    assert differences(metadata, again) == []


@given(config=objects.container_configs(), log_path=objects.TEXT, created_at=objects.TIMES)
def test_container(config: cri.ContainerConfig, **others: Any) -> None:
    metadata = replace(objects.container_metadata(DIRECTORY), config=config, **others)
    again = records.container_metadata(through_the_file(records.container_metadata_body(metadata)), DIRECTORY)
    assert differences(metadata, again) == []


@given(objects.SANDBOX_STATUSES)
def test_pod_status(status: SandboxStatus) -> None:
    assert records.sandbox_status(through_the_file(records.sandbox_status_body(status))) == status


@given(objects.CONTAINER_STATUSES)
def test_container_status(status: ContainerStatus) -> None:
    assert records.container_status(through_the_file(records.container_status_body(status))) == status


@pytest.mark.parametrize("name", [item.name for item in fields(ContainerMetadata)])
def test_no_field_of_a_container_is_forgotten(name: str) -> None:
    """A field that is added to the dataclass and not to the record would come back as its default."""
    metadata = objects.container_metadata(DIRECTORY)
    default = next(item for item in fields(ContainerMetadata) if item.name == name)
    again = records.container_metadata(through_the_file(records.container_metadata_body(metadata)), DIRECTORY)
    assert getattr(again, name) == getattr(metadata, name)
    assert getattr(metadata, name) != default.default


@pytest.mark.parametrize("name", [item.name for item in fields(SandboxMetadata)])
def test_no_field_of_a_pod_is_forgotten(name: str) -> None:
    metadata = objects.sandbox_metadata(DIRECTORY)
    default = next(item for item in fields(SandboxMetadata) if item.name == name)
    again = records.sandbox_metadata(through_the_file(records.sandbox_metadata_body(metadata)), DIRECTORY)
    assert getattr(again, name) == getattr(metadata, name)
    assert getattr(metadata, name) != default.default


def test_the_envelope_can_be_read_by_a_person() -> None:
    content = records.seal("pod", {"id": "x"})
    assert content.endswith(b"\n")
    envelope = json.loads(content)
    assert {key: envelope[key] for key in ("version", "kind", "body")} == {
        "version": records.VERSION,
        "kind": "pod",
        "body": {"id": "x"},
    }


CONTENT = records.seal("pod", records.sandbox_metadata_body(objects.sandbox_metadata(DIRECTORY)))


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_does_no_harm(position: int, bit: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= 1 << bit
    try:
        body = records.unseal("pod", bytes(damaged), WHERE)
    except DataLossError:
        return
    assert body == json.loads(CONTENT)["body"]  # one kind of white space for another


@given(st.integers(0, len(CONTENT) - 2))
def test_a_truncated_record_is_noticed(length: int) -> None:
    with pytest.raises(DataLossError, match="record /var/lib/crid/pods/x"):
        records.unseal("pod", CONTENT[:length], WHERE)


@given(
    st.binary(max_size=64) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_what_is_no_record_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(DataLossError):
        records.unseal("pod", content, WHERE)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(DataLossError, match="holds a 'pod', not a 'container'"):
        records.unseal("container", CONTENT, WHERE)


def of_version(version: int, kind: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a crid that writes `version` writes."""
    with monkeypatch.context() as patch:
        patch.setattr(records, "VERSION", version)
        return records.seal(kind, body)


def test_a_newer_record_is_refused_but_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = of_version(records.VERSION + 1, "pod", {"id": "x"}, monkeypatch)
    with pytest.raises(FailedPreconditionError, match=f"record {WHERE}: is of version {records.VERSION + 1}, of a newer crid"):
        records.unseal("pod", newer, WHERE)
    assert records.claims_newer(newer[:32])
    assert not records.claims_newer(CONTENT[:32])


def test_damage_is_not_taken_for_a_newer_version() -> None:
    """One flipped bit makes a 2 a 6, or a kind another."""
    for damage in (b'"version":6', b'"version":0', b'"version":-1', b'"version":true', b'"version":null'):
        with pytest.raises(DataLossError):
            records.unseal("pod", CONTENT.replace(f'"version":{records.VERSION}'.encode(), damage), WHERE)


def test_migrations_are_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def adding(name: str) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
        return lambda kind, body: {**body, name: f"{kind} {len(body)}"}

    chain = [*records.MIGRATIONS, adding("a"), adding("b")]
    written = {version: of_version(version, "k", {}, monkeypatch) for version in range(1, len(chain) + 2)}
    monkeypatch.setattr(records, "MIGRATIONS", chain)
    monkeypatch.setattr(records, "VERSION", len(chain) + 1)
    bodies = {version: records.unseal("k", content, WHERE) for version, content in written.items()}
    both = {"a": "k 0", "b": "k 1"}
    assert bodies == {1: both, 2: both, 3: both, 4: {"b": "k 0"}, 5: {}}


VERSIONS = range(1, records.VERSION + 1)


def sample(version: int, name: str, kind: str) -> dict[str, Any]:
    path = samples.SAMPLES / f"v{version}" / f"{name}.json"
    return records.unseal(kind, path.read_bytes(), path)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_of_every_version_are_read(version: int) -> None:
    pod, container = samples.expected(version)
    read_pod = records.sandbox_metadata(sample(version, "pod", "pod"), samples.DIRECTORY)
    read_container = records.container_metadata(sample(version, "container", "container"), samples.DIRECTORY)
    assert (read_pod, read_container) == (pod, container)
    assert records.sandbox_status(sample(version, "pod-status", "pod-status")) == samples.SANDBOX_STATUS
    assert records.container_status(sample(version, "container-status", "container-status")) == samples.STATUS


@pytest.mark.parametrize("version", [1, 2])
def test_a_pod_with_a_user_namespace_had_its_map_in_its_config_alone(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cri.UserNamespace(uids=[cri.IDMapping(host_id=5, length=6)], gids=[cri.IDMapping(host_id=7, length=8)])
    body = records.sandbox_metadata_body(samples.SANDBOX)
    for key in ("idmap", *(["boot"] if version == 1 else [])):
        del body[key]
    config = cri.PodSandboxConfig()
    config.CopyFrom(samples.SANDBOX.config)
    config.linux.security_context.namespace_options.userns_options.CopyFrom(asked)
    body["config"] = base64.b64encode(config.SerializeToString()).decode()
    read = records.unseal("pod", of_version(version, "pod", body, monkeypatch), WHERE)
    found = records.sandbox_metadata(read, samples.DIRECTORY).idmap
    assert found == IdMap.of(IdRange(5, 6), IdRange(7, 8))
    body["config"] = base64.b64encode(b"\xff").decode()
    with pytest.raises(DataLossError):
        records.unseal("pod", of_version(version, "pod", body, monkeypatch), WHERE)


def test_whose_choice_a_range_was_is_kept() -> None:
    """Two ranges are the same whosever they were, so the other tests do not see it."""
    again = records.sandbox_metadata(through_the_file(records.sandbox_metadata_body(samples.SANDBOX)), DIRECTORY).idmap
    assert again is not None
    origins = [each.origin for each in (*again.users.ranges, *again.groups.ranges)]
    assert origins == [Origin.ALLOCATED, Origin.HOST, Origin.GIVEN]


def test_a_status_of_the_first_weeks_is_read() -> None:
    status = records.sandbox_status(sample(1, "pod-status-first", "pod-status"))
    assert status == replace(samples.SANDBOX_STATUS, resources=None, overhead=None)


def test_whoever_changes_what_is_written_makes_a_new_version() -> None:
    """With a migration, samples of its own, and their digest in FROZEN."""
    directory = samples.SAMPLES / f"v{records.VERSION}"
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == samples.written_today()


def test_samples_are_never_changed() -> None:
    assert {version: samples.digest(version) for version in VERSIONS} == samples.FROZEN


def test_nesting_beyond_all_measure_is_damage_too() -> None:
    with pytest.raises(DataLossError):
        records.unseal("pod", b"[" * 200_000, WHERE)
