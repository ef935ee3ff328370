"""crid.net.masquerade: the text that nft is given. What the kernel does with it is in tests/integration/net."""

from ipaddress import ip_network

from crid.net.masquerade import ruleset, table_name


def test_ruleset_replaces_only_the_table_of_this_bridge() -> None:
    text = ruleset("crid0", [ip_network("10.88.0.0/16")])
    assert text.splitlines()[:3] == ["table inet crid-crid0", "delete table inet crid-crid0", "table inet crid-crid0 {"]
    assert "flush" not in text
    assert table_name("crid1") not in text


def test_one_rule_a_network_in_its_family() -> None:
    rules = [
        line for line in ruleset("b0", [ip_network("10.88.0.0/16"), ip_network("fd91::/64")]).splitlines() if "saddr" in line
    ]
    assert rules == [
        'ip saddr 10.88.0.0/16 ip daddr != { 10.88.0.0/16, 224.0.0.0/4 } oifname != "b0" masquerade',
        'ip6 saddr fd91::/64 ip6 daddr != { fd91::/64, ff00::/8 } oifname != "b0" masquerade',
    ]
