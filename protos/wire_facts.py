"""Print what a protobuf API looks like on the wire, as sorted lines that two versions can be compared by.

Reads a serialized FileDescriptorSet from stdin. One line a fact: package, message, field (number, label, type, and
what else bears on encoding or logging), enum value, reserved name or number, RPC with its streaming kinds. Comments,
file names, the order of declarations and language options such as go_package are no facts of the wire. A kind of
declaration that no line could express (extensions, proto2) is refused rather than passed over.

protos/README.md says how protos/wire-facts.txt is made with it.
"""

import sys
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.protobuf.message import Message


def file_facts(file: FileDescriptorProto) -> Iterator[str]:
    """Yield the facts of one file; ValueError if it declares what facts cannot express."""
    if file.syntax != "proto3" or file.extension:
        raise ValueError(f"{file.name}: only proto3 without extensions is understood")
    yield f"package {file.package}"
    for message in file.message_type:
        yield from message_facts(f"{file.package}.{message.name}", message)
    for enum in file.enum_type:
        yield from enum_facts(f"{file.package}.{enum.name}", enum)
    for service in file.service:
        yield from service_facts(f"{file.package}.{service.name}", service)


def message_facts(name: str, message: DescriptorProto) -> Iterator[str]:
    """Yield the facts of a message and of what is declared inside it; a map counts as one field, not as a message."""
    if message.extension or message.extension_range:
        raise ValueError(f"{name}: extensions are not understood")
    yield f"message {name}{options_of(message.options)}"
    maps = {f".{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for field in message.field:
        kind = f"{label_of(field)}{type_of(field)}"
        if entry := maps.get(field.type_name):
            key, value = entry.field
            kind = f"map<{type_of(key)}, {type_of(value)}>"
        oneof = f" oneof={message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else ""
        yield f"field {name}.{field.name} = {field.number} {kind}{oneof}{options_of(field.options)}"
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from message_facts(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from enum_facts(f"{name}.{enum.name}", enum)
    for span in message.reserved_range:
        yield f"reserved {name} {span.start}..{span.end - 1}"
    for reserved in message.reserved_name:
        yield f"reserved {name} {reserved}"


def enum_facts(name: str, enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {name}{options_of(enum.options)}"
    for value in enum.value:
        yield f"value {name}.{value.name} = {value.number}{options_of(value.options)}"
    for span in enum.reserved_range:
        yield f"reserved {name} {span.start}..{span.end}"
    for reserved in enum.reserved_name:
        yield f"reserved {name} {reserved}"


def service_facts(name: str, service: ServiceDescriptorProto) -> Iterator[str]:
    yield f"service {name}{options_of(service.options)}"
    for method in service.method:
        request = f"{'stream ' if method.client_streaming else ''}{method.input_type.removeprefix('.')}"
        response = f"{'stream ' if method.server_streaming else ''}{method.output_type.removeprefix('.')}"
        yield f"rpc {name}.{method.name} ({request}) returns ({response}){options_of(method.options)}"


def type_of(field: FieldDescriptorProto) -> str:
    """The type as a .proto file spells it: a scalar's keyword, or a message's or enum's full name."""
    return field.type_name.removeprefix(".") or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def label_of(field: FieldDescriptorProto) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated "
    return "optional " if field.proto3_optional else ""


def options_of(options: Message) -> str:
    """All options set on a declaration, whichever they are, as ` [name=value, ...]`."""
    set_ones = sorted(f"{option.name}={value}" for option, value in options.ListFields())
    return f" [{', '.join(set_ones)}]" if set_ones else ""


def main() -> None:
    descriptors = FileDescriptorSet.FromString(sys.stdin.buffer.read())
    for fact in sorted(fact for file in descriptors.file for fact in file_facts(file)):
        print(fact)


if __name__ == "__main__":
    main()
