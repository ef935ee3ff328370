"""crid.net.ruleset: the text that nft is given. What the kernel does with it is in tests/integration/net."""

from ipaddress import ip_address, ip_network

from crid.net import ruleset
from crid.net.plugin import PortMapping
from crid.net.ruleset import Bridge, PodPorts

BRIDGE = Bridge("b0", (ip_network("10.88.0.0/16"), ip_network("fd91::/64")))
POD = PodPorts(
    "abc",
    (PortMapping("tcp", 8080, 80), PortMapping("udp", 53, 5353, ip_address("192.0.2.1"))),
    (ip_address("10.88.0.2"), ip_address("fd91::2"), ip_address("10.88.0.9")),
    "b0",
)


def test_table_replaces_only_that_of_this_bridge() -> None:
    text = ruleset.table(Bridge("crid0", BRIDGE.networks))
    assert text.splitlines()[:3] == ["table inet crid-crid0", "delete table inet crid-crid0", "table inet crid-crid0 {"]
    assert "flush" not in text
    assert ruleset.table_name("crid1") not in text


def test_one_masquerading_rule_a_network_in_its_family() -> None:
    rules = [line for line in ruleset.table(BRIDGE).splitlines() if "daddr !=" in line]
    assert rules == [
        'ip saddr 10.88.0.0/16 ip daddr != { 10.88.0.0/16, 224.0.0.0/4 } oifname != "b0" masquerade',
        'ip6 saddr fd91::/64 ip6 daddr != { fd91::/64, ff00::/8 } oifname != "b0" masquerade',
    ]


def test_a_mapping_leads_to_the_first_address_of_each_family() -> None:
    assert ruleset.elements(POD, keys_only=True) == {
        "ports4": ["tcp . 8080"],
        "address_ports4": ["192.0.2.1 . udp . 53"],
        "hairpin4": ["10.88.0.2 . 10.88.0.2"],
        "ports6": ["tcp . 8080"],
        "hairpin6": ["fd91::2 . fd91::2"],
        "localnet": ['"b0"'],
    }
    assert ruleset.elements(POD, keys_only=False)["ports6"] == ['tcp . 8080 comment "pod abc" : fd91::2 . 80']


def test_what_is_added_is_what_is_removed_but_for_the_guarded_interface() -> None:
    added = [line.split()[4] for line in ruleset.add("b0", POD).splitlines()]
    removed = [line.split()[4] for line in ruleset.remove("b0", POD).splitlines()]
    assert added == [*removed, "localnet"]


def test_the_whole_table_has_every_pods_elements_once() -> None:
    text = ruleset.table(BRIDGE, [POD])
    assert text.count("tcp . 8080") == 2
    assert 'elements = { "b0" }' in text


def test_what_was_guarded_stays_guarded() -> None:
    assert 'elements = { "b0", "cni0", "cni1" };' in ruleset.table(BRIDGE, [POD], {"cni1", "cni0", "b0"})
    sets = [{"metainfo": {}}, {"set": {"name": "localnet", "elem": ["b0", "cni0"]}}, {"set": {"name": "hairpin4", "elem": [1]}}]
    assert list(ruleset.guarded_in({"nftables": sets})) == ["b0", "cni0"]
    assert list(ruleset.guarded_in({"nftables": [{"set": {"name": "localnet"}}]})) == []


def test_isolation_names_the_other_bridges() -> None:
    assert "drop" not in ruleset.table(BRIDGE).partition("chain forward")[2]
    text = ruleset.table(Bridge("b0", BRIDGE.networks, ("docker0", "other")))
    assert 'iifname "b0" oifname { "docker0", "other" } drop' in text
    assert 'iifname { "docker0", "other" } oifname "b0" drop' in text
