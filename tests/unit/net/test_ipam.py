"""crid.net.ipam: no address is ever held twice, and a journal survives what a crash can do to it."""

import errno
import os
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crid.errors import ResourceExhaustedError, UnavailableError
from crid.net import ipam
from crid.net.addresses import Network
from crid.net.ipam import AddressStore

SMALL = IPv4Network("10.91.1.0/29")
POD = "a" * 64


def no_write(*_: object) -> int:
    """What os.write does on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network" / "addresses"


def store(path: Path, *networks: Network, boot: str = "boot") -> AddressStore:
    return AddressStore(networks or (SMALL,), path, boot=boot)


def test_never_gives_network_gateway_or_last(path: Path) -> None:
    addresses = store(path)
    assert [addresses.allocate(str(number)) for number in range(5)] == [(SMALL[offset],) for offset in range(2, 7)]
    with pytest.raises(ResourceExhaustedError, match=str(SMALL)):
        addresses.allocate("late")
    assert "late" not in addresses.held()


def test_released_address_comes_last(path: Path) -> None:
    addresses = store(path)
    given_addresses = []
    for number in range(7):
        given_addresses.append(addresses.allocate(str(number))[0])
        addresses.release(str(number))
    assert given_addresses == [SMALL[offset] for offset in (2, 3, 4, 5, 6, 2, 3)]


def test_turn_survives_a_restart(path: Path) -> None:
    first = store(path)
    first.allocate("1")
    first.allocate("2")
    first.close()
    assert store(path).allocate("3") == (SMALL[4],)


def test_one_address_of_each_network(path: Path) -> None:
    network6 = IPv6Network("fd91::/64")
    addresses = store(path, SMALL, network6)
    assert addresses.allocate(POD) == (SMALL[2], network6[2])
    addresses.close()
    assert store(path, SMALL, network6).held()[POD] == (SMALL[2], network6[2])


def test_full_second_network_takes_nothing_of_the_first(path: Path) -> None:
    large = IPv4Network("10.92.0.0/24")
    addresses = store(path, large, SMALL)
    for number in range(5):
        addresses.allocate(str(number))
    for _ in range(300):
        with pytest.raises(ResourceExhaustedError):
            addresses.allocate("late")
    addresses.release("0")
    assert addresses.allocate("late")[0] in large


def test_allocate_again_gives_the_same_and_release_is_idempotent(path: Path) -> None:
    addresses = store(path)
    assert addresses.allocate(POD) == addresses.allocate(POD)
    addresses.release(POD)
    addresses.release(POD)
    assert len(addresses) == 0


def test_survives_a_crash_without_close(path: Path) -> None:
    first = store(path)
    first.allocate("1")
    first.allocate("2")
    first.release("1")
    second = store(path)
    assert second.held().keys() == {"2"}
    assert second.held()["2"] == (SMALL[3],)


def test_another_boot_starts_empty(path: Path) -> None:
    store(path).allocate(POD)
    assert len(store(path, boot="next")) == 0


def test_boot_id_is_the_kernels(path: Path) -> None:
    AddressStore([SMALL], path).allocate(POD)
    assert AddressStore([SMALL], path).held().keys() == {POD}


def test_retain(path: Path) -> None:
    addresses = store(path)
    for name in "123":
        addresses.allocate(name)
    addresses.retain(["2", "unknown"])
    assert addresses.held().keys() == {"2"}
    assert store(path).held().keys() == {"2"}


def test_adopted_address_is_not_given(path: Path) -> None:
    addresses = store(path)
    addresses.adopt(POD, [SMALL[3]])
    addresses.adopt(POD, [SMALL[5]])
    assert addresses.held()[POD] == (SMALL[3],)
    assert SMALL[3] not in {addresses.allocate(str(number))[0] for number in range(4)}


def test_addresses_of_a_former_network_are_kept_until_released(path: Path) -> None:
    store(path).allocate(POD)
    other = IPv4Network("10.92.0.0/29")
    addresses = store(path, other)
    assert addresses.held()[POD] == (SMALL[2],)
    addresses.release(POD)
    assert len({addresses.allocate(str(number)) for number in range(5)}) == 5


def test_addresses_that_the_network_would_not_give_take_nothing_of_it(path: Path) -> None:
    """Pods from before the subnet was made smaller have what is now the network's own, the gateway's and the last address."""
    addresses = store(path)
    for offset in (0, 1, 7):
        addresses.adopt(f"old{offset}", [SMALL[offset]])
    assert {addresses.allocate(str(number))[0] for number in range(5)} == {SMALL[offset] for offset in range(2, 7)}


@pytest.mark.parametrize("cut", range(1, 12))
def test_line_cut_short_is_dropped(path: Path, cut: int) -> None:
    store(path).allocate("1")
    whole = path.read_bytes()
    store(path).allocate("2")
    path.write_bytes(path.read_bytes()[:-cut])
    assert path.read_bytes().startswith(whole)
    addresses = store(path)
    assert addresses.held().keys() == {"1"}
    assert addresses.allocate("3") == (SMALL[3],)
    assert store(path).held().keys() == {"1", "3"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"\0" * 4096,
        b"\xff\xfe",
        b"crid-addresses 2 boot\n",
        b"crid-addresses 1 boot",
        b"crid-addresses 1 boot\n+ a 10.91.1.300\n",
        b"crid-addresses 1 boot\n+ a\n",
        b"crid-addresses 1 boot\n- a\n",
        b"crid-addresses 1 boot\n? a 10.91.1.2\n",
        b"crid-addresses 1 boot\n\n",
    ],
)
def test_damaged_journal_is_set_aside_and_named(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    addresses = store(path)
    (aside,) = path.parent.glob("addresses.damaged-*")
    assert aside.read_bytes() == content
    assert str(aside) in caplog.text
    addresses.allocate(POD)
    assert store(path).held().keys() == {POD}


def test_full_disk_gives_nothing_and_keeps_the_journal_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = store(path)
    addresses.allocate("1")
    real_write = os.write

    def half_write(descriptor: int, content: bytes) -> int:
        return real_write(descriptor, content[: len(content) // 2])

    for broken in (half_write, no_write):
        with monkeypatch.context() as patch:
            patch.setattr("os.write", broken)
            with pytest.raises(UnavailableError, match="address journal"):
                addresses.allocate("2")
    assert addresses.held().keys() == {"1"}
    assert addresses.allocate("3")[0] in SMALL
    assert store(path).held().keys() == {"1", "3"}


def test_full_disk_keeps_nobodys_address_and_no_daemon_from_starting(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is not written down is free for this daemon, and freed by the next one once it knows which pods there are."""
    addresses = store(path)
    for holder in "12":
        addresses.allocate(holder)

    with monkeypatch.context() as patch:
        patch.setattr("os.write", no_write)
        addresses.release("1")
        assert addresses.held().keys() == {"2"}
        again = store(path)
        assert again.held().keys() == {"1", "2"}
        again.retain(["2"])
        with pytest.raises(UnavailableError, match="No space left"):
            again.allocate("3")
    assert "cannot be written" in caplog.text
    again.allocate("4")
    assert store(path).held().keys() == {"2", "4"}


def test_full_disk_and_a_lost_journal_keep_no_daemon_from_starting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What links say of their pods' addresses holds without being written, and is written as soon as that can be."""
    with monkeypatch.context() as patch:
        patch.setattr("os.write", no_write)
        addresses = store(path)
        addresses.adopt("1", [SMALL[2]])
        addresses.adopt("2", [SMALL[3]])
        addresses.release("1")
        with pytest.raises(UnavailableError, match="No space left"):
            addresses.allocate("3")
    given_late = addresses.allocate("3")
    assert given_late != (SMALL[3],)
    assert store(path).held() == {"2": (SMALL[3],), "3": given_late}


def test_a_disk_with_room_for_a_line_but_for_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal goes on as it is; what a torn line has left in it is cut off first."""
    addresses = store(path)
    for holder in "12":
        addresses.allocate(holder)
    with path.open("ab") as file:
        file.write(b"+ 3 10.")

    def no_file(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("crid.net.ipam.write_atomic", no_file)
    again = store(path)
    again.release("1")
    again.allocate("4")
    third = store(path)
    assert third.held().keys() == {"2", "4"}
    assert third.held()["4"] == again.held()["4"]


def test_an_address_that_was_freed_on_a_full_disk_has_one_holder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had it is written down as gone before who has it now."""
    addresses = store(path, SMALL)
    pods = [str(number) for number in range(SMALL.num_addresses - 3)]
    for pod in pods:
        addresses.allocate(pod)

    with monkeypatch.context() as patch:
        patch.setattr("os.write", no_write)
        addresses.release("0")
    (given,) = addresses.allocate("late")
    again = store(path, SMALL)
    assert again.held().keys() == {*pods[1:], "late"}
    again.retain([*pods[1:], "late"])
    assert again.held()["late"] == (given,)
    with pytest.raises(ResourceExhaustedError):
        again.allocate("more")


def test_no_line_is_added_to_another_boots_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(path).allocate("1")
    before = path.read_bytes()

    def no_file(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("crid.net.ipam.write_atomic", no_file)
        later = AddressStore([SMALL], path, boot="later")
        with pytest.raises(UnavailableError, match="No space left"):
            later.allocate("2")
        assert path.read_bytes() == before
    later.allocate("3")
    assert AddressStore([SMALL], path, boot="later").held().keys() == {"3"}


def test_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="address journal"):
        store(tmp_path / "file" / "addresses")


def test_journal_is_compacted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipam, "_COMPACT_AFTER", 10)
    addresses = store(path)
    addresses.allocate("kept")
    for number in range(200):
        addresses.allocate(str(number))
        addresses.release(str(number))
    assert len(path.read_text().splitlines()) < 15
    assert store(path).held().keys() == {"kept"}


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.sampled_from("+-r"), st.integers(0, 7)), max_size=40))
def test_agrees_with_a_simple_model(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("ipam") / "addresses"
    addresses = store(path)
    model: dict[str, IPv4Address] = {}
    for verb, number in steps:
        name = str(number)
        if verb == "+" and (name in model or len(model) < 5):
            (address,) = addresses.allocate(name)
            assert isinstance(address, IPv4Address)
            assert model.setdefault(name, address) == address
        elif verb == "+":
            with pytest.raises(ResourceExhaustedError):
                addresses.allocate(name)
        elif verb == "-":
            addresses.release(name)
            model.pop(name, None)
        else:
            addresses.close()
            addresses = store(path)
        assert addresses.held() == {n: (a,) for n, a in model.items()}
        assert len(set(model.values())) == len(model)
    addresses.close()
