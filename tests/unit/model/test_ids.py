import re

from crid.model import ids


def test_a_new_id_is_64_hexadecimal_digits_and_another_each_time() -> None:
    found = {ids.new_id() for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch("[0-9a-f]{64}", identifier) for identifier in found)


def test_what_is_an_id() -> None:
    assert ids.is_id(ids.new_id())
    assert not any(ids.is_id(text) for text in ("", "a" * 63, "a" * 65, "A" * 64, "a" * 64 + "\n"))


def test_short() -> None:
    identifier = ids.new_id()
    assert ids.short(identifier) == identifier[:13]
    assert ids.short("abc") == "abc"


def test_names_are_those_of_the_kubelets_docker_days() -> None:
    assert ids.sandbox_name("web-0", "default", "u-1", 2) == "k8s_POD_web-0_default_u-1_2"
    assert ids.container_name("app", "web-0", "default", "u-1", 3) == "k8s_app_web-0_default_u-1_3"
