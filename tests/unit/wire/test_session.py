import json

import pytest

from crid.wire.session import Status


def test_status_as_clients_of_v4_read_it() -> None:
    assert json.loads(Status().to_json()) == {"metadata": {}, "status": "Success"}
    assert json.loads(Status(3).to_json()) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code 3",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
    failed = json.loads(Status(failure="no such file").to_json())
    assert (failed["status"], failed["reason"], failed["code"]) == ("Failure", "InternalError", 500)
    assert failed["message"] == "no such file"


@pytest.mark.parametrize("code", [-1, 256])
def test_a_client_cannot_be_told_such_a_code(code: int) -> None:
    with pytest.raises(ValueError, match="no exit code"):
        Status(code)
