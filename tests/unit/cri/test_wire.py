"""The API we generate is, fact by fact, the one of the Kubernetes CRI (protos/wire-facts.txt)."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from crid.cri import api_pb2, api_pb2_grpc

PROTOS = Path(__file__).parents[3] / "protos"
UPSTREAM = (PROTOS / "wire-facts.txt").read_text().splitlines()


def generated() -> FileDescriptorProto:
    file = FileDescriptorProto()
    api_pb2.DESCRIPTOR.CopyToProto(file)
    return file


def facts_of(file: FileDescriptorProto) -> list[str]:
    command = [sys.executable, "-W", "error", str(PROTOS / "wire_facts.py")]
    descriptors = FileDescriptorSet(file=[file]).SerializeToString()
    return subprocess.run(command, input=descriptors, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()


def test_no_fact_is_missing_and_none_is_ours_alone() -> None:
    ours = facts_of(generated())
    assert sorted(set(UPSTREAM) - set(ours)) == [], "the CRI has these, crid does not"
    assert sorted(set(ours) - set(UPSTREAM)) == [], "crid has these, the CRI does not"
    assert ours == UPSTREAM  # no fact twice, and sorted


def message(file: FileDescriptorProto, name: str) -> DescriptorProto:
    return next(message for message in file.message_type if message.name == name)


def field(file: FileDescriptorProto, owner: str, name: str) -> FieldDescriptorProto:
    return next(field for field in message(file, owner).field if field.name == name)


def method(file: FileDescriptorProto, name: str) -> MethodDescriptorProto:
    return next(method for service in file.service for method in service.method if method.name == name)


def renumber(file: FileDescriptorProto) -> None:
    field(file, "Mount", "image").number = 12


def rename(file: FileDescriptorProto) -> None:
    field(file, "ContainerConfig", "CDI_devices").name = "cdi_devices"


def retype(file: FileDescriptorProto) -> None:
    field(file, "KeyValue", "value").type = FieldDescriptorProto.TYPE_STRING


def unrepeat(file: FileDescriptorProto) -> None:
    field(file, "DNSConfig", "servers").label = FieldDescriptorProto.LABEL_OPTIONAL


def retype_map(file: FileDescriptorProto) -> None:
    entry = next(nested for nested in message(file, "PodSandbox").nested_type if nested.name == "LabelsEntry")
    entry.field[1].type = FieldDescriptorProto.TYPE_BYTES


def expose_secret(file: FileDescriptorProto) -> None:
    field(file, "AuthConfig", "password").ClearField("options")


def forget_deprecation(file: FileDescriptorProto) -> None:
    field(file, "LinuxContainerSecurityContext", "apparmor_profile").ClearField("options")


def track_presence(file: FileDescriptorProto) -> None:
    timeout = field(file, "StopContainerRequest", "timeout")
    timeout.proto3_optional, timeout.oneof_index = True, 0
    message(file, "StopContainerRequest").oneof_decl.add(name="_timeout")


def renumber_value(file: FileDescriptorProto) -> None:
    signals = next(enum for enum in file.enum_type if enum.name == "Signal")
    signals.value[-1].number = 66


def drop_message(file: FileDescriptorProto) -> None:
    file.message_type.remove(message(file, "StopContainerResponse"))


def reserve(file: FileDescriptorProto) -> None:
    message(file, "Namespace").reserved_range.add(start=1, end=2)


def answer_once(file: FileDescriptorProto) -> None:
    method(file, "GetContainerEvents").server_streaming = False


def swap_response(file: FileDescriptorProto) -> None:
    method(file, "StopContainer").output_type = ".runtime.v1.RemoveContainerResponse"


def move_package(file: FileDescriptorProto) -> None:
    file.package = "runtime.v1alpha2"


@pytest.mark.parametrize(
    "change",
    [
        renumber,
        rename,
        retype,
        unrepeat,
        retype_map,
        expose_secret,
        forget_deprecation,
        track_presence,
        renumber_value,
        drop_message,
        reserve,
        answer_once,
        swap_response,
        move_package,
    ],
)
def test_the_comparison_notices(change: Callable[[FileDescriptorProto], None]) -> None:
    file = generated()
    change(file)
    assert facts_of(file) != UPSTREAM


def test_services_have_their_rpcs() -> None:
    """The servicers and stubs that grpc works with agree with the descriptor they were generated from."""
    services = api_pb2.DESCRIPTOR.services_by_name
    assert {name: len(service.methods) for name, service in services.items()} == {
        "RuntimeService": 37,
        "ImageService": 6,
    }
    servicers = {
        "RuntimeService": api_pb2_grpc.RuntimeServiceServicer,
        "ImageService": api_pb2_grpc.ImageServiceServicer,
    }
    for name, service in services.items():
        handlers = {attribute for attribute in vars(servicers[name]) if not attribute.startswith("_")}
        assert handlers == {method.name for method in service.methods}


def test_streaming_kinds() -> None:
    """Seven RPCs stream their answer; none streams its request."""
    methods = [method for service in api_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods]
    assert sorted(method.name for method in methods if method.server_streaming) == [
        "GetContainerEvents",
        "StreamContainerStats",
        "StreamContainers",
        "StreamImages",
        "StreamPodSandboxMetrics",
        "StreamPodSandboxStats",
        "StreamPodSandboxes",
    ]
    assert not [method.name for method in methods if method.client_streaming]
