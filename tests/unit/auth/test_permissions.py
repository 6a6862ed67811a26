"""What permissions allow, and what commands need."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synap.auth.permissions import (
    ACTIONS,
    ANONYMOUS,
    ROLES,
    TRUSTED,
    Action,
    Caller,
    Permission,
)
from synap.commands.accounts import ChangeAccounts
from synap.commands.commands import Command
from synap.commands.confirm import Confirm
from synap.commands.key_spans import KeySpan
from synap.commands.keys import Copy, Delete, Expire, Flush, Persist, Rename, SetMany
from synap.commands.keyspace import ABSENT, BaseCommand
from synap.commands.slots import BringRequests, ChangeSlot, ClearSlot
from synap.commands.strings import Append, GetSet, Increment, IncrementFloat, Set, SetRange
from synap.commands.txn import Condition, Get, Txn
from synap.config.account_limits import OWN_ROLES
from synap.request_errors import Forbidden


def caller(*permissions: tuple[str, Action], within: Caller | None = None) -> Caller:
    return Caller("ann", [Permission(*each) for each in permissions], within)


@pytest.mark.parametrize(
    ("patterns", "spans"),
    [
        (["*"], [KeySpan(b"")]),
        (["k*", "kv:user:*"], [KeySpan(b"")]),
        (["kv:user:*", "kv:user:1", "kv:a"], [KeySpan(b"a", True), KeySpan(b"user:")]),
        (["kv:u*:mail", "node:*", "kv", "auth:users"], [KeySpan(b"u")]),
        ([], []),
    ],
)
def test_readable_spans_are_where_the_patterns_stars_begin(
    patterns: list[str], spans: list[KeySpan]
) -> None:
    assert list(caller(*[(each, "read") for each in patterns]).readable) == spans


def test_readable_spans_of_a_key_are_within_those_of_its_owner() -> None:
    owner = caller(("kv:user:*", "read"), ("kv:x", "read"), ("kv:w*", "write"))
    limited = caller(("kv:user:1:*", "all"), ("kv:*", "write"), ("kv:w*", "read"), within=owner)
    assert limited.readable == (KeySpan(b"user:1:"),)
    assert caller(("*", "all"), within=owner).readable == owner.readable


_PATTERNS = st.lists(st.text("kv:ab*", max_size=7), max_size=4)


@given(_PATTERNS, _PATTERNS, st.text("ab:", max_size=4))
def test_key_that_may_be_read_is_in_a_readable_span(
    own: list[str], owners: list[str], key: str
) -> None:
    owner = caller(*[(each, "read") for each in owners])
    limited = caller(*[(each, "read") for each in own], within=owner)
    if limited.may_read(key.encode()):
        assert any(span.holds(key.encode()) for span in limited.readable)


@pytest.mark.parametrize(
    ("pattern", "resource", "fits"),
    [
        ("*", "kv:a", True),
        ("*", "", True),
        ("kv:*", "kv:", True),
        ("kv:*", "node:kv:", False),
        ("kv:user:*", "kv:user:1", True),
        ("kv:user:*", "kv:users", False),
        ("kv:a", "kv:a", True),
        ("kv:a", "kv:ab", False),
        ("kv:*:mail", "kv:ann:mail", True),
        ("kv:*:mail", "kv::mail", True),
        ("kv:*:mail", "kv:mail", False),
        ("kv:a*a", "kv:a", False),
        ("kv:*b*c*", "kv:abc", True),
        ("kv:*b*c*", "kv:acb", False),
        ("kv:*ab*ab", "kv:xabab", True),
        ("kv:*ab*ab", "kv:xab", False),
        ("kv:[a]?", "kv:ab", False),
        ("kv:[a]?", "kv:[a]?", True),
        ("kv:ü*", "kv:üx", True),
        ("kv:a*", "kv:a\n\x00", True),
        ("", "kv:a", False),
    ],
)
def test_pattern_fits_any_text_where_its_stars_are(pattern: str, resource: str, fits: bool) -> None:
    assert caller((pattern, "read")).may("read", resource.encode()) is fits


def test_pattern_of_many_stars_is_not_slow() -> None:
    slow = caller(("kv:" + "*a" * 200 + "*b", "read"))
    assert not slow.may("read", b"kv:" + b"a" * 500)


@pytest.mark.parametrize("granted", ACTIONS)
def test_an_action_allows_itself_and_all_allows_each(granted: Action) -> None:
    someone = caller(("*", granted))
    for action in ACTIONS[:-1]:
        assert someone.may(action, b"kv:a") is (granted in (action, "all"))


@pytest.mark.parametrize(
    ("role", "action", "resource", "allowed"),
    [
        ("admin", "admin", "node:backup", True),
        ("admin", "delete", "kv:a", True),
        ("readwrite", "read", "kv:a", True),
        ("readwrite", "write", "kv:a", True),
        ("readwrite", "delete", "kv:a", True),
        ("readwrite", "admin", "node:backup", False),
        ("readwrite", "read", "node:replication", True),
        ("readwrite", "admin", "auth:users", False),
        ("readonly", "read", "kv:a", True),
        ("readonly", "write", "kv:a", False),
        ("readonly", "delete", "kv:a", False),
        ("readonly", "admin", "node:snapshot", False),
    ],
)
def test_role_allows(role: str, action: Action, resource: str, allowed: bool) -> None:
    assert Caller("ann", ROLES[role]).may(action, resource.encode()) is allowed


def test_configuration_knows_the_roles_that_are_synaps_own() -> None:
    assert set(ROLES) == set(OWN_ROLES)


def test_forbidden_names_resource_and_action() -> None:
    with pytest.raises(Forbidden) as caught:
        caller(("kv:b*", "all")).require_read(b"a\xff")
    assert caught.value.message == (
        "Forbidden: Insufficient permissions for resource: kv:a\\xff, action: read"
    )


def test_only_who_may_do_everything_is_not_limited() -> None:
    assert not TRUSTED.is_limited
    assert not caller(*(("*", action) for action in ACTIONS[:-1])).is_limited
    assert caller(("kv:*", "all")).is_limited
    assert caller(("*", "read")).is_limited
    assert ANONYMOUS.is_limited


def test_what_is_within_somebody_may_no_more_than_he() -> None:
    owner = caller(("kv:user:*", "read"), ("kv:user:*", "write"))
    key = caller(("kv:*", "read"), within=owner)
    assert key.may("read", b"kv:user:1")
    assert not key.may("read", b"kv:x")
    assert not key.may("write", b"kv:user:1")
    assert caller(("*", "all"), within=owner).is_limited
    assert not caller(("*", "all"), within=TRUSTED).is_limited


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [
        ([("kv:user:*", "read")], True),
        ([("kv:user:1", "write")], True),
        ([("kv:user:*:x*", "read")], True),
        ([("kv:*", "read")], False),
        ([("kv:use*", "read")], False),
        ([("*", "read")], False),
        ([("kv:user:*", "delete")], False),
        ([("kv:user:*", "all")], False),
        ([("kv:user:1", "read"), ("kv:x", "read")], False),
        ([], True),
    ],
)
def test_nobody_grants_what_he_does_not_have(
    granted: list[tuple[str, Action]], allowed: bool
) -> None:
    someone = caller(("kv:user:*", "read"), ("kv:user:*", "write"))
    assert someone.may_grant(Permission(*each) for each in granted) is allowed


COMMANDS: list[tuple[Command, set[tuple[Action, bytes]]]] = [
    (Set(b"a", b"1"), {("write", b"kv:a")}),
    (Set(b"a", b"1", get=True), {("read", b"kv:a"), ("write", b"kv:a")}),
    # What tells whether a key is there, or how long it is, reads it.
    (Set(b"a", b"1", nx=True), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Set(b"a", b"1", xx=True), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Set(b"a", b"1", if_version=ABSENT), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Delete((b"a",), if_version=ABSENT), {("read", b"kv:a"), ("delete", b"kv:a")}),
    (SetMany(((b"a", b"1"),), nx=True), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Copy(b"a", b"b", replace=True), {("read", b"kv:a"), ("write", b"kv:b")}),
    (
        Rename(b"a", b"b", nx=True),
        {("read", b"kv:a"), ("delete", b"kv:a"), ("read", b"kv:b"), ("write", b"kv:b")},
    ),
    (Delete((b"a", b"b")), {("delete", b"kv:a"), ("delete", b"kv:b")}),
    (Increment(b"a", 1), {("read", b"kv:a"), ("write", b"kv:a")}),
    (IncrementFloat(b"a", 1.5), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Append(b"a", b"1"), {("read", b"kv:a"), ("write", b"kv:a")}),
    (SetRange(b"a", 0, b"1"), {("read", b"kv:a"), ("write", b"kv:a")}),
    (GetSet(b"a", b"1"), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Expire(b"a", 1), {("read", b"kv:a"), ("write", b"kv:a")}),
    (Persist(b"a"), {("read", b"kv:a"), ("write", b"kv:a")}),
    (SetMany(((b"a", b"1"), (b"b", b"2"))), {("write", b"kv:a"), ("write", b"kv:b")}),
    (
        Rename(b"a", b"b"),
        {("read", b"kv:a"), ("delete", b"kv:a"), ("write", b"kv:b")},
    ),
    (Copy(b"a", b"b"), {("read", b"kv:a"), ("read", b"kv:b"), ("write", b"kv:b")}),
    (
        Txn((Condition(b"a", exists=True),), (Set(b"b", b"1"),), (Get(b"c"), Delete((b"d",)))),
        {("read", b"kv:a"), ("write", b"kv:b"), ("read", b"kv:c"), ("delete", b"kv:d")},
    ),
    (Flush(), {("delete", b"kv:*")}),
    (ChangeAccounts(()), {("admin", b"auth:accounts")}),
    (ChangeSlot(1, "freeze"), {("admin", b"node:slots")}),
    (ClearSlot(1, (b"k",)), {("admin", b"node:slots")}),
    (BringRequests(1, ()), {("admin", b"node:slots")}),
    (Confirm(1), {("admin", b"node:command")}),
]


@pytest.mark.parametrize(("command", "needed"), COMMANDS)
def test_command_needs(command: Command, needed: set[tuple[Action, bytes]]) -> None:
    assert set(command.needs()) == needed


def test_every_command_says_what_it_needs() -> None:
    assert {type(command) for command, _ in COMMANDS} == set(get_args(Command))


@pytest.mark.parametrize("command", [command for command, _ in COMMANDS])
def test_no_command_is_allowed_to_who_may_only_read(command: Command) -> None:
    with pytest.raises(Forbidden):
        Caller("ann", ROLES["readonly"]).require_for(command)


@pytest.mark.parametrize(("command", "needed"), COMMANDS)
def test_command_is_forbidden_where_one_of_its_needs_is_missing(
    command: Command, needed: set[tuple[Action, bytes]]
) -> None:
    for missing in needed:
        rest = [(resource.decode(), action) for action, resource in needed - {missing}]
        with pytest.raises(Forbidden):
            caller(*rest).require_for(command)
    caller(*((resource.decode(), action) for action, resource in needed)).require_for(command)


def test_command_that_nobody_described_needs_admin() -> None:
    class Strange(BaseCommand, frozen=True, tag=99):
        key: bytes

    assert set(Strange(b"a").needs()) == {("admin", b"node:command")}


def test_some_key_is_allowed_where_the_caller_and_the_owner_have_one() -> None:
    owner = caller(("kv:user:*", "write"), ("node:*", "all"), ("*:*", "read"))
    owner.require_some_key("write")
    owner.require_some_key("read")
    TRUSTED.require_some_key("delete")
    for each in (owner, caller(("*", "all"), within=owner), caller(("kv", "delete"))):
        with pytest.raises(Forbidden):
            each.require_some_key("delete")


def test_something_is_allowed_but_to_who_has_no_permission_or_whose_owner_has_none() -> None:
    caller(("node:a", "read")).require_something()
    for each in (ANONYMOUS, caller(("*", "all"), within=caller())):
        with pytest.raises(Forbidden):
            each.require_something()
