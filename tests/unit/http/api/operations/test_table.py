"""The table of operations."""

from collections import Counter

import msgspec
import pytest

from synap.http.api.openapi.answer_schemas import SCHEMAS
from synap.http.api.operations.operation import Nothing, Operation
from synap.http.api.operations.table import BY_NAME, KV_WORDS, OPERATIONS

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
