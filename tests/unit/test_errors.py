import inspect

import pytest

from crid import errors

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_a_meaning_of_its_own_below_one_root(kind: type[Exception]) -> None:
    assert kind is errors.CridError or kind.__bases__ == (errors.CridError,)
    assert kind.__doc__
    assert str(kind("pod x: no address")) == "pod x: no address"
