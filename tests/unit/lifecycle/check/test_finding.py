from crid.lifecycle.check.finding import Finding, Severity


def test_a_line_names_the_object_and_the_cause() -> None:
    finding = Finding(Severity.ERROR, "pod", "b" * 64, "its link is missing")
    assert str(finding) == "error: pod bbbbbbbbbbbbb: its link is missing"
    blob = Finding(Severity.LEFTOVER, "images", "/x/ingest/1", "was still being written", repairable=True)
    assert str(blob) == "leftover: images /x/ingest/1: was still being written; a start of crid repairs it"


def test_json_has_the_whole_id() -> None:
    assert Finding(Severity.NOTICE, "pod", "b" * 64, "x", related="y").as_json() == {
        "severity": "notice",
        "subject": "pod",
        "id": "b" * 64,
        "problem": "x",
        "repairable": False,
    }
