"""Annotations."""

from collections.abc import Callable
from dataclasses import replace

from crid.oci.spec.inputs import BuiltSpec
from crid.oci.spec.policy import Policy
from tests.unit.oci.spec.conftest import HOST


def test_the_place_in_kubernetes(make: Callable[..., BuiltSpec]) -> None:
    annotations = make().spec["annotations"]
    assert annotations["io.kubernetes.cri.container-type"] == "container"
    assert annotations["io.kubernetes.cri.container-name"] == "nginx"
    assert annotations["io.kubernetes.cri.sandbox-namespace"] == "default"


def test_a_pods_author_does_not_reach_the_runtime(make: Callable[..., BuiltSpec]) -> None:
    entry = "annotations { key: 'run.oci.hooks.stdout' value: '/etc/passwd' }"
    assert "run.oci.hooks.stdout" not in make(entry, pod=entry).spec["annotations"]


def test_what_the_handler_allows_is_passed_but_cannot_pose_as_ours(make: Callable[..., BuiltSpec]) -> None:
    allowed = Policy(
        allowed_annotations=("run.oci.*",), default_annotations={"mine": "1", "io.kubernetes.cri.sandbox-id": "lie"}
    )
    entry = "annotations { key: 'run.oci.keep_original_groups' value: '%s' }"
    annotations = make(entry % 2, pod=entry % 1, host=replace(HOST, policy=allowed)).spec["annotations"]
    assert annotations["run.oci.keep_original_groups"] == "2"
    assert annotations["mine"] == "1"
    assert annotations["io.kubernetes.cri.sandbox-id"] == "5" * 64
