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
    assert rdt.parse(DOCUMENT) == {"gold": rdt.Class(), "plain": rdt.Class(), "inner": rdt.Class(by_pods=False)}
    assert rdt.parse({}) == {}


@pytest.mark.parametrize(
    "partitions",
    [
        [],
        {"a": 1},
        {"a": {"classes": []}},
        {"a": {"classes": {"../b": {}}}},
        {"a": {"classes": {"info": {}}}},
        {"a": {"classes": {"x": {}}}, "b": {"classes": {"x": {}}}},
    ],
)
def test_what_cannot_be_meant_is_refused(partitions: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="partitions"):
        rdt.parse({"partitions": partitions})


def test_who_may_choose() -> None:
    classes = rdt.parse(DOCUMENT)
    assert rdt.chosen(classes, "app", {}, {}) == rdt.chosen(None, "app", {}, {}) == ""
    assert rdt.chosen(classes, "app", {}, {POD: "gold"}) == "gold"
    assert rdt.chosen(classes, "app", {}, {POD: "gold", "rdt.resources.beta.kubernetes.io/container.app": "plain"}) == "plain"
    assert rdt.chosen(classes, "app", {OWN: "inner"}, {POD: "gold"}) == "inner"


@pytest.mark.parametrize(
    ("classes", "pod", "error", "words"),
    [
        (None, "gold", FailedPreconditionError, "rdt_config_file"),
        (rdt.parse(DOCUMENT), "silver", NotFoundError, "'silver'"),
        (rdt.parse(DOCUMENT), "inner", InvalidArgumentError, "must not be chosen"),
    ],
)
def test_what_is_refused(classes: dict[str, rdt.Class] | None, pod: str, error: type[CridError], words: str) -> None:
    with pytest.raises(error, match=words):
        rdt.chosen(classes, "app", {}, {POD: pod})
