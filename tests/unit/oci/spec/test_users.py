"""Users and groups, also from files that lie."""

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from crid.cri import api_pb2 as cri
from crid.errors import InvalidArgumentError
from crid.oci.spec import users

PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:\nnginx:x:101:102:web:/var/cache/nginx:/sbin/nologin\n"
GROUP = "root:x:0:\nwheel:x:10:root\nnginx:x:102:\nmedia:x:500:nginx,other\n"


def security(text: str = "") -> cri.LinuxContainerSecurityContext:
    return text_format.Parse(text, cri.LinuxContainerSecurityContext())


@pytest.mark.parametrize(
    ("asked", "image", "uid", "groups"),
    [
        ("", "", 0, (0, 10)),
        ("", "nginx", 101, (102, 500)),
        ("", "101", 101, (102, 500)),
        ("", "4242", 4242, (0,)),
        ("", "4242:7", 4242, (7,)),
        ("", "nginx:media", 101, (500,)),
        ("", ":media", 0, (500, 10)),
        ("run_as_user { value: 101 }", "root", 101, (102, 500)),
        ("run_as_user { value: 0 }", "nginx", 0, (0, 10)),
        ("run_as_user { value: 4242 }", "nginx:media", 4242, (0,)),
        ("run_as_username: 'nginx'", "", 101, (102, 500)),
        ("run_as_user { value: 101 } run_as_group { value: 9 }", "", 101, (9, 500)),
        ("run_as_username: 'nginx' supplemental_groups: [7, 500, 8]", "", 101, (102, 500, 7, 8)),
        ("run_as_username: 'nginx' supplemental_groups: [7] supplemental_groups_policy: Strict", "", 101, (102, 7)),
    ],
)
def test_resolution(asked: str, image: str, uid: int, groups: tuple[int, ...]) -> None:
    user = users.resolve(security(asked), image, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups) == (uid, groups[0], groups)
    reported = users.reported(user.to_oci()).linux
    assert (reported.uid, reported.gid, tuple(reported.supplemental_groups)) == (uid, groups[0], groups)


@pytest.mark.parametrize(
    ("asked", "image", "message"),
    [
        ("run_as_group { value: 1 }", "nginx", "run_as_group: needs"),
        ("run_as_user { value: 1 } run_as_username: 'nginx'", "", "both set"),
        ("run_as_username: 'nobody'", "", "run_as_username: 'nobody' is not in"),
        ("run_as_username: '101'", "", "run_as_username"),
        ("run_as_user { value: -1 }", "", "run_as_user: -1"),
        ("run_as_user { value: 4294967295 }", "", "run_as_user"),
        ("run_as_user { value: 1 } run_as_group { value: 4294967295 }", "", "run_as_group"),
        ("supplemental_groups: [1, -5]", "", r"supplemental_groups\[1\]"),
        ("supplemental_groups_policy: 7", "", "policy"),
        ("", "ghost", "image's user 'ghost'"),
        ("", "nginx:ghost", "image's group 'ghost'"),
        ("", "9999999999", "image's user"),
        ("", "1:9999999999", "image's group"),
    ],
)
def test_refusals(asked: str, image: str, message: str) -> None:
    context = cri.LinuxContainerSecurityContext()
    if "policy: 7" in asked:
        context.supplemental_groups_policy = 7  # type: ignore[assignment]  # no value of the enum
    else:
        context = security(asked)
    with pytest.raises(InvalidArgumentError, match=message):
        users.resolve(context, image, PASSWD, GROUP)


def test_without_files_numbers_still_work() -> None:
    assert users.resolve(security("run_as_user { value: 7 }"), "", "", "") == users.User(7, 0, (0,), "/")


@pytest.mark.parametrize(
    "line",
    [
        "evil:x:0x0:0::/:/bin/sh",
        "evil:x:-1:0::/:/bin/sh",
        "evil:x:٣:0::/:/bin/sh",
        "evil:x:4294967295:0::/:/bin/sh",
        "evil:x:99999999999999999999:0::/:/bin/sh",
        "evil:x:5",
        "\vroot:x:1:1:\x85evil:x:5:5::/:/bin/sh",
        "x\u2028evil:x:5:5::/:/bin/sh",
    ],
)
def test_malformed_lines_are_no_entries(line: str) -> None:
    with pytest.raises(InvalidArgumentError, match="evil"):
        users.resolve(security("run_as_username: 'evil'"), "", f"{line}\n{PASSWD}", "")


@pytest.mark.parametrize("home", ["", "relative", "/a\x1b[31m", "/a\rb", "/a\0b"])
def test_a_home_that_cannot_be_one(home: str) -> None:
    user = users.resolve(security(), "bad", f"bad:x:5:5::{home}:/bin/sh\n", "")
    assert user.home == "/"


def test_the_first_entry_wins() -> None:
    assert users.resolve(security(), "twice", "twice:x:5:5::/:\ntwice:x:0:0::/:\n", "").uid == 5


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_it_or_leaves_the_range(name: str, passwd: str, group: str) -> None:
    try:
        user = users.resolve(security(), name, passwd, group)
    except InvalidArgumentError:
        return
    assert all(0 <= value <= users.ID_LIMIT for value in (user.uid, *user.groups))
    assert user.groups[0] == user.gid


@pytest.mark.parametrize(
    ("passwd", "environment", "line"),
    [
        ("root:x:0:0::/:\n", ["A=1", "HOME=/h"], "7:x:7:8:7 user:/h:/sbin/nologin\n"),
        ("root:x:0:0::/:", [], "\n7:x:7:8:7 user:/:/sbin/nologin\n"),
        ("root:x:0:0::/:\n", ["HOME=/h:0:0"], "7:x:7:8:7 user:/:/sbin/nologin\n"),
        ("root:x:0:0::/:\n", ["HOME=/h\nroot2:x:0:0::/:"], "7:x:7:8:7 user:/:/sbin/nologin\n"),
        ("me:x:7:9::/me:\n", [], ""),
        ("", [], ""),
    ],
)
def test_a_user_without_an_entry_gets_one(passwd: str, environment: list[str], line: str) -> None:
    assert users.missing_account(users.User(7, 8, (8,)), passwd, environment) == line
