"""docs/rpcs.md has one row for each RPC of the API, and says of each whether it is served."""

import re
from pathlib import Path

from crid.cri import api_pb2

DOC = (Path(__file__).parents[3] / "docs" / "rpcs.md").read_text()
HEADING = re.compile(r"^## (\w+)$")
ROW = re.compile(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$")


def rows() -> list[tuple[str, str, str]]:
    """Service, RPC and status of each row, in the order of the page."""
    service = ""
    found: list[tuple[str, str, str]] = []
    for line in DOC.splitlines():
        if heading := HEADING.match(line):
            service = heading[1]
        elif row := ROW.match(line):
            found.append((service, row[1], row[2]))
    return found


def test_each_rpc_has_one_row_under_its_service() -> None:
    services = api_pb2.DESCRIPTOR.services_by_name.values()
    documented = [(service, name) for service, name, _ in rows()]
    assert sorted(documented) == sorted((service.name, method.name) for service in services for method in service.methods)


def test_each_status_is_one_of_two() -> None:
    assert {status for _, _, status in rows()} <= {"served", "UNIMPLEMENTED"}


def test_the_count_in_the_text_is_that_of_the_rows() -> None:
    served = sum(status == "served" for _, _, status in rows())
    assert f"{served} of {len(rows())} RPCs are served" in DOC
