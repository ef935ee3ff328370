from crid.model.idmap import IdMap, IdRange

MAP = IdMap(IdRange(1000, 10), IdRange(2000, 20))


def test_forms() -> None:
    assert MAP.users.to_kernel() == "0 1000 10"
    assert MAP.groups.to_oci() == [{"containerID": 0, "hostID": 2000, "size": 20}]
    assert (MAP.users.to_cri().host_id, MAP.users.to_cri().length) == (1000, 10)


def test_who_is_who_on_the_host() -> None:
    assert MAP.root == (1000, 2000)
    assert MAP.to_host(9, 19) == (1009, 2019)
    assert MAP.to_host(10, 20) == (10, 20)  # not mapped
