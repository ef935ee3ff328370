"""Classes of RDT: which there are, and who may choose them."""

from typing import Any

import pytest

from crid.errors import CridError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from crid.oci.spec import rdt

DOCUMENT = {
    "options": {"l3": {"optional": True}},
    "partitions": {
        "exclusive": {"l3Allocation": {"all": "60%"}, "classes": {"gold": {"l3Allocation": {"all": "100%"}}, "plain": None}},
        "shared": {"classes": {"inner": {"kubernetes": {"denyPodAnnotation": True}}}},
    },
}
POD = "rdt.resources.beta.kubernetes.io/pod"
OWN = "io.kubernetes.cri.rdt-class"


def test_the_classes_of_all_partitions() -> None:
    found = rdt.parse(DOCUMENT)
    assert found.classes == {"gold": rdt.Class(), "plain": rdt.Class(), "inner": rdt.Class(by_pods=False)}
    assert {name: set(partition.classes) for name, partition in found.partitions.items()} == {
        "exclusive": {"gold", "plain"},
        "shared": {"inner"},
    }
    assert found.optional == {"L3"}
    assert rdt.parse({}) == rdt.Configuration({}, {})


@pytest.mark.parametrize(
    "partitions",
    [
        [],
        {"a": 1},
        {"a": {"classes": []}},
        {"a": {"classes": {"../b": {}}}},
        {"a": {"classes": {"info": {}}}},
        {"a": {"classes": {"x": {}}}, "b": {"classes": {"x": {}}}},
        {"a": {"l4Allocation": "50%"}},
        {"a": {"classes": {"x": {"l3allocation": "50%"}}}},
    ],
)
def test_what_cannot_be_meant_is_refused(partitions: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="partitions"):
        rdt.parse({"partitions": partitions})


def test_the_class_of_all_others_is_none() -> None:
    """Whoever chooses it is in no group of its own."""
    classes = rdt.parse({"partitions": {"p": {"classes": {"system/default": {}}}}}).classes
    assert rdt.chosen(classes, "app", {}, {POD: "system/default"}) == ""


def test_who_may_choose() -> None:
    classes = rdt.parse(DOCUMENT).classes
    assert rdt.chosen(classes, "app", {}, {}) == rdt.chosen(None, "app", {}, {}) == ""
    assert rdt.chosen(classes, "app", {}, {POD: "gold"}) == "gold"
    assert rdt.chosen(classes, "app", {}, {POD: "gold", "rdt.resources.beta.kubernetes.io/container.app": "plain"}) == "plain"
    assert rdt.chosen(classes, "app", {OWN: "inner"}, {POD: "gold"}) == "inner"


@pytest.mark.parametrize(
    ("classes", "pod", "error", "words"),
    [
        (None, "gold", FailedPreconditionError, "rdt_config_file"),
        (rdt.parse(DOCUMENT).classes, "silver", NotFoundError, "'silver'"),
        (rdt.parse(DOCUMENT).classes, "inner", InvalidArgumentError, "must not be chosen"),
    ],
)
def test_what_is_refused(classes: dict[str, rdt.Class] | None, pod: str, error: type[CridError], words: str) -> None:
    with pytest.raises(error, match=words):
        rdt.chosen(classes, "app", {}, {POD: pod})
