"""The table of operations."""

from collections import Counter

import msgspec
import pytest

from synap.auth.permissions import Caller, Permission
from synap.http.api.bodies import decoder
from synap.http.api.openapi.answer_schemas import SCHEMAS
from synap.http.api.operations.operation import Nothing, Operation, Write
from synap.http.api.operations.table import BY_NAME, KV_WORDS, OPERATIONS
from synap.request_errors import Forbidden

ROUTED = [operation for operation in OPERATIONS if operation.route is not None]


def test_every_name_and_every_route_stands_for_one_operation() -> None:
    names = Counter(name for operation in OPERATIONS for name in operation.names)
    routes = Counter((each.route.method, each.route.path) for each in ROUTED if each.route)
    assert set(names.values()) | set(routes.values()) == {1}
    assert names.keys() == BY_NAME.keys()


def test_words_under_kv_are_those_of_fixed_paths() -> None:
    assert {"set", "mget", "scan"} <= KV_WORDS
    assert not KV_WORDS & {"append", "ttl", "{key}", "randomkey"}


@pytest.mark.parametrize("operation", ROUTED, ids=lambda operation: operation.names[0])
def test_key_of_the_path_is_a_field_of_the_payload(operation: Operation) -> None:
    route = operation.described()
    fields = {field.name for field in msgspec.structs.fields(operation.payload)}
    assert fields >= {operation.key_field} - {""}
    assert fields >= set(operation.body.__struct_fields__)
    assert ("{key}" in route.path) <= bool(fields)
    assert (route.body is None) or (route.body is not Nothing and route.method == "POST")
    assert route.answer in SCHEMAS


# A body of each write that has one, for the key `k`.
SAMPLES = {
    "kv.set": {"key": "k", "value": 1},
    "kv.mset": {"pairs": [["k", 1]]},
    "kv.msetnx": {"pairs": [["k", 1]]},
    "kv.mdel": {"keys": ["k"]},
    "kv.txn": {"then": [{"set": {"key": "k", "value": 1}}]},
    "kv.incr": {"key": "k"},
    "kv.decr": {"key": "k"},
    "kv.incrbyfloat": {"key": "k", "amount": 1.5},
    "kv.append": {"value": 1},
    "kv.setrange": {"offset": 1, "value": 1},
    "kv.getset": {"value": 1},
    "kv.expire": {"ttl": 1},
    "key.rename": {"destination": "other"},
    "key.renamenx": {"destination": "other"},
    "key.copy": {"destination": "other"},
}


@pytest.mark.parametrize(
    "operation",
    [each for each in ROUTED if each.is_write and each.takes_json],
    ids=lambda operation: operation.names[0],
)
def test_what_is_wanted_before_a_body_is_wanted_after_it(operation: Operation) -> None:
    assert isinstance(operation, Write)
    text = msgspec.json.encode(SAMPLES[operation.names[0]])
    body = (operation.decode or decoder(operation.body))(text)
    assert (operation.action, b"kv:k") in operation.prepare(b"k", body).needs()
    nobody = Caller("ann", [Permission("node:*", "all")])
    for key in (b"k", b""):
        with pytest.raises(Forbidden):
            operation.admit(nobody, key)
        operation.admit(Caller("ann", [Permission("kv:k", operation.action)]), key)


def test_what_is_only_filtered_is_for_whoever_may_do_anything() -> None:
    mget = BY_NAME["kv.mget"]
    mget.admit(Caller("ann", [Permission("node:a", "read")]), b"")
    with pytest.raises(Forbidden):
        mget.admit(Caller("ann", []), b"")
