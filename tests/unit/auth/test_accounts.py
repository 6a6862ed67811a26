"""Records of users and keys."""

from __future__ import annotations

import pytest

from synap.auth.accounts import (
    ApiKey,
    User,
    api_key_record,
    decode_user,
    encode,
    id_of_record,
    permissions_of,
)
from synap.auth.passwords import hash_password, new_api_key, verify_password
from synap.auth.permissions import ROLES, Permission


def test_record_of_a_newer_node_can_be_read() -> None:
    user = User(username="ann", id="1", password_hash="x", roles=("readonly",))
    assert decode_user(encode(user)) == user
    assert decode_user(encode(user)[:-1] + b',"colour":"red"}') == user


def test_permissions_are_those_of_known_roles_and_of_an_admin_all() -> None:
    reports = (Permission("kv:report:*", "read"),)
    user = User(username="a", id="1", password_hash="", roles=("readonly", "reporter", "gone"))
    assert permissions_of(user, {"reporter": reports}) == (*ROLES["readonly"], *reports)
    boss = User(username="b", id="1", password_hash="", is_admin=True)
    assert permissions_of(boss, {}) == ROLES["admin"]


def test_api_key_is_stored_by_its_hash_and_named_by_its_beginning() -> None:
    key = new_api_key()
    record = api_key_record(key)
    assert key.encode() not in record
    assert record.startswith(b"key/" + id_of_record(record).encode())
    assert len({new_api_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("networks", "address", "works"),
    [
        ((), "", True),
        (("192.0.2.0/24",), "192.0.2.7", True),
        (("192.0.2.0/24",), "192.0.3.7", False),
        (("192.0.2.0/24",), "", False),
        (("192.0.2.0/24",), "::1", False),
        (("192.0.2.0/24", "::1/128"), "::1", True),
    ],
)
def test_api_key_works_from_its_networks(
    networks: tuple[str, ...], address: str, works: bool
) -> None:
    key = ApiKey(id="1", name="k", owner="a", owner_id="1", allowed_ips=networks)
    assert key.works_from(address) is works


def test_password_hash_has_its_own_salt_and_fits_its_password_alone() -> None:
    first, second = hash_password("correct horse"), hash_password("correct horse")
    assert first != second
    assert verify_password("correct horse", first)
    assert not verify_password("correct horsf", second)
