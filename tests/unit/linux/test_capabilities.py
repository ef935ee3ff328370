from crid.linux import capabilities


def test_numbers_are_the_kernels() -> None:
    known = {"CAP_CHOWN": 0, "CAP_SETPCAP": 8, "CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34, "CAP_CHECKPOINT_RESTORE": 40}
    assert {name: capabilities.NUMBERS[name] for name in known} == known
    assert len(capabilities.NAMES) == len(set(capabilities.NAMES)) == 41


def test_the_table_has_all_that_the_kernel_knows() -> None:
    assert capabilities.last() < len(capabilities.NAMES)


def test_held_is_what_is_permitted_and_bounding() -> None:
    status = b"Name:\tcrid\nCapInh:\t00000000000000ff\nCapPrm:\t0000000000000007\nCapBnd:\t0000020000000005\n"
    assert capabilities.held_in(status) == {"CAP_CHOWN", "CAP_DAC_READ_SEARCH"}


def test_held_by_this_process() -> None:
    assert capabilities.held() <= set(capabilities.NAMES)
