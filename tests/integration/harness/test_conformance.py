"""The tables out of critest's reports."""

from typing import Any

from tests.harness.conformance import parse, tables


def spec(name: str, state: str, *, file: str = "pod.go", reason: str = "", package: str = "validate") -> dict[str, Any]:
    """A spec as ginkgo reports it."""
    return {
        "LeafNodeType": "It",
        "LeafNodeLocation": {"FileName": f"/src/pkg/{package}/{file}"},
        "LeafNodeText": f"{name} [Conformance]",
        "ContainerHierarchyTexts": ["[k8s.io] Suite", "runtime"],
        "State": state,
        **({"Failure": {"Message": reason}} if reason else {}),
    }


def report(*specs: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"SpecReports": list(specs)}]


def test_every_spec_once_with_what_became_of_it() -> None:
    """A run that was not asked for a spec says nothing of it; benchmarks are none."""
    setup = {"LeafNodeType": "BeforeSuite", "State": "passed"}
    one = parse(report(setup, spec("starts", "passed"), spec("confines", "skipped", reason="no | AppArmor")))
    two = parse(
        report(
            spec("starts", "passed"),
            spec("confines", "passed"),
            spec("stops", "failed", reason="it did not"),
            spec("unasked", "skipped"),
            spec("fast", "passed", package="benchmark"),
        )
    )
    text = tables({"v1-crun": one, "v1-runc": one, "v2-crun": two})
    assert "| v1-crun | 1 | 0 | 1 |" in text
    assert "| v2-crun | 2 | 1 | 0 |" in text
    assert "| runtime starts | all |  |" in text
    assert "| runtime confines | v2 | v1: no \\| AppArmor |" in text
    assert "| runtime stops | none | v2: FAILED |" in text
    assert "**pod.go** (3)" in text
    assert "unasked" not in text
    assert "fast" not in text


def test_some_runs_of_a_host() -> None:
    """They are named one by one."""
    good, bad = parse(report(spec("starts", "passed"))), parse(report(spec("starts", "skipped", reason="not here")))
    text = tables({"v1-crun": good, "v1-runc": bad, "v2-crun": good})
    assert "| runtime starts | v2, v1-crun | v1-runc: not here |" in text
