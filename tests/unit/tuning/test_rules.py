"""How several containers' settings meet in one file."""

import pytest

from crid.tuning.rules import RULES, BannedCpus


@pytest.mark.parametrize(
    ("rule", "current", "value", "expected"),
    [
        ("value", "powersave", "performance", "performance"),
        ("mask-without", "f", "1-2", "00000009"),
        ("mask-without", "ff,ffffffff", "0,33", "000000fd,fffffffe"),
        ("list-with", "", "2-3", "2-3"),
        ("list-with", "0", "2-3", "0,2-3"),
        ("quota-plus", "200000", "100000", "300000"),
        ("quota-plus", "200000 100000", "100000", "300000 100000"),
        ("quota-plus", "-1", "100000", "-1"),
        ("quota-plus", "max 100000", "100000", "max 100000"),
    ],
)
def test_holding(rule: str, current: str, value: str, expected: str) -> None:
    assert RULES[rule].held(current, value) == expected


@pytest.mark.parametrize(
    ("rule", "current", "original", "value", "others", "expected"),
    [
        ("value", "performance", "powersave", "performance", [], "powersave"),
        ("value", "performance", "powersave", "performance", ["ondemand", "userspace"], "userspace"),
        ("mask-without", "00000009", "f", "1-2", [], "0000000f"),
        ("mask-without", "00000001", "f", "1-2", ["2-3"], "00000003"),
        ("mask-without", "00000001", "9", "1-3", [], "00000009"),  # CPUs 1 and 2 were out before
        ("list-with", "0,2-3", "0", "2-3", [], "0"),
        ("list-with", "2-4", "", "2-3", ["3-4"], "3-4"),
        ("list-with", "2-3", "2-3", "2-3", [], "2-3"),
        ("quota-plus", "300000", "200000", "100000", [], "200000"),
        ("quota-plus", "50000", "200000", "100000", [], "200000"),  # somebody else has set it meanwhile
        ("quota-plus", "max 100000", "200000 100000", "100000", [], "max 100000"),
        ("quota-plus", "300000", "-1", "100000", [], "300000"),
    ],
)
def test_letting_go(rule: str, current: str, original: str, value: str, others: list[str], expected: str) -> None:
    assert RULES[rule].released(current, original, value, others) == expected


def test_irqbalances_configuration_keeps_its_other_lines() -> None:
    rule = BannedCpus()
    text = '# what to do\nIRQBALANCE_BANNED_CPUS=1\nIRQBALANCE_ARGS="--foo"'
    held = rule.held(text, "2-3")
    assert held == '# what to do\nIRQBALANCE_BANNED_CPUS="0000000d"\nIRQBALANCE_ARGS="--foo"'
    assert rule.banned(held) == {0, 2, 3}
    assert rule.released(held, text, "2-3", ["3"]) == held.replace("0000000d", "00000009")
    assert rule.banned(rule.released(held, text, "0,2-3", [])) == {0}


def test_irqbalances_configuration_without_the_line() -> None:
    rule = BannedCpus()
    held = rule.held("#IRQBALANCE_BANNED_CPUS=ff\nX=1", "40")
    assert held == '#IRQBALANCE_BANNED_CPUS=ff\nX=1\nIRQBALANCE_BANNED_CPUS="00000100,00000000"'
    assert rule.released(held, "X=1", "40", []).endswith('IRQBALANCE_BANNED_CPUS=""')
    assert rule.banned('IRQBALANCE_BANNED_CPUS=""') == frozenset()
