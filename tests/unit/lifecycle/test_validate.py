"""Requests that make no sense are refused by the field's name. What the verbs refuse is in their own tests."""

import pytest

from crid.errors import InvalidArgumentError
from crid.lifecycle import validate
from tests.unit.lifecycle.world import container_config, pod_config


@pytest.mark.parametrize("field", ["name", "namespace", "uid"])
@pytest.mark.parametrize("value", ["a/b", "../x", "a\0b"])
def test_a_pods_names_are_no_paths(field: str, value: str) -> None:
    config = pod_config()
    setattr(config.metadata, field, value)
    with pytest.raises(InvalidArgumentError, match=field):
        validate.require_metadata(config)


def test_only_the_uid_may_be_empty() -> None:
    config = pod_config()
    config.metadata.uid = ""
    validate.require_metadata(config)


@pytest.mark.parametrize("path", ["", "0.log", "a/0.log", "..a/0.log", "a..b"])
def test_log_paths(path: str) -> None:
    validate.require_container(container_config(log_path=path))


@pytest.mark.parametrize("path", ["/0.log", "..", "../0.log", "a/../../0.log"])
def test_log_paths_out_of_the_pods_directory(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="log_path"):
        validate.require_container(container_config(log_path=path))
