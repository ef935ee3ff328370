"""Masked and read-only paths."""

import pytest
from google.protobuf import text_format

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import paths


def build(text: str) -> tuple[list[str], list[str]]:
    return paths.build(text_format.Parse(text, cri.LinuxContainerConfig()))


def test_who_says_nothing_gets_the_defaults() -> None:
    masked, readonly = build("")
    assert "/proc/kcore" in masked
    assert "/proc/sys" in readonly


def test_the_lists_of_a_security_context_count_even_empty() -> None:
    assert build("security_context { masked_paths: '/m' readonly_paths: '/r' }") == (["/m"], ["/r"])
    assert build("security_context {}") == ([], [])


def test_privileged_containers_have_none() -> None:
    assert build("security_context { privileged: true masked_paths: '/m' }") == ([], [])


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="readonly_paths"):
        build("security_context { readonly_paths: 'proc' }")
