"""The bodies of operations: what their fields come to."""

import msgspec
import pytest

from synap.commands.keyspace import MAX_EXPIRY_MS
from synap.commands.strings import Increment, Set
from synap.http.api.bodies import decoder
from synap.http.api.operations.names import DestinationBody
from synap.http.api.operations.table import BY_NAME
from synap.http.api.operations.values import AmountBody, RangeBody
from synap.http.api.operations.whole_keys import PairsBody, SetBody, decode_pairs, set_command
from synap.place import Place
from synap.request_errors import FieldInvalid, InvalidRequest, InvalidValue

NOW_MS = 1_000_000

set_body = decoder(SetBody)


def _set(body: bytes) -> Set:
    return set_command(b"", set_body(body), lambda: NOW_MS)


def test_set_body_without_options_is_a_plain_set() -> None:
    assert _set(b'{"key":"k","value":"v"}') == Set(b"k", b"v")


@pytest.mark.parametrize(
    ("fields", "expiry_ms"),
    [
        (b'"ttl":0', NOW_MS - 1),
        (b'"ttl":60', NOW_MS + 60_000),
        (b'"ttl":null', None),
        (b'"expiry":{"type":"seconds","value":2}', NOW_MS + 2000),
        (b'"expiry":{"type":"milliseconds","value":2}', NOW_MS + 2),
        (b'"expiry":{"type":"unix_seconds","value":2}', 2000),
        (b'"expiry":{"type":"unix_milliseconds","value":2}', 2),
        (b'"ttl":60,"expiry":{"type":"unix_milliseconds","value":0}', 0),
    ],
)
def test_set_body_with_a_deadline_comes_to_absolute_ms(
    fields: bytes, expiry_ms: int | None
) -> None:
    assert _set(b'{"key":"k","value":"v",' + fields + b"}").expiry_ms == expiry_ms


def test_set_body_with_the_last_possible_deadline_is_taken_and_one_more_refused() -> None:
    body = '{"key":"k","value":"v","expiry":{"type":"unix_milliseconds","value":%d}}'
    assert _set((body % MAX_EXPIRY_MS).encode()).expiry_ms == MAX_EXPIRY_MS
    with pytest.raises(FieldInvalid, match="'expiry'"):
        _set((body % (MAX_EXPIRY_MS + 1)).encode())


def test_set_body_with_options_carries_them() -> None:
    body = b'{"key":"k","value":1,"xx":true,"keepttl":true,"get":true,"if_version":"7-9f2c11aa"}'
    assert _set(body) == Set(b"k", b"1", None, False, True, True, True, Place(7, "9f2c11aa"))


def test_pairs_body_takes_objects_and_arrays() -> None:
    body = decoder(PairsBody)(b'{"pairs":[["a",1],{"value":"x","key":"b"}]}')
    assert body.command(nx=False).pairs == ((b"a", b"1"), (b"b", b"x"))


@pytest.mark.parametrize(
    ("pairs", "stored"),
    [
        (
            b'[["a","\\u00fc"],{"key":"b","value":"1"}]',
            ((b"a", "ü".encode()), (b"b", b"1")),
        ),
        (b'[["a","x"],["b",{ "c": 1.10 }]]', ((b"a", b"x"), (b"b", b'{"c":1.10}'))),
        (b"[]", ()),
    ],
)
def test_pairs_are_the_same_with_strings_alone_and_with_other_values(
    pairs: bytes, stored: tuple[tuple[bytes, bytes], ...]
) -> None:
    body = b'{"pairs":' + pairs + b"}"
    for decode in (decode_pairs, decoder(PairsBody)):
        assert decode(body).command(nx=False).pairs == stored


@pytest.mark.parametrize(
    "pairs", [b'[["a","\\ud800"]]', b'[["a","\xff"]]', b'[["a","x"]', b'[["a"]]', b'["a"]']
)
def test_pairs_body_refuses_what_is_no_list_of_pairs(pairs: bytes) -> None:
    with pytest.raises((InvalidRequest, FieldInvalid)):
        decode_pairs(b'{"pairs":' + pairs + b"}").command(nx=False)


@pytest.mark.parametrize("amount", [-(2**63), 0, 2**63 - 1])
def test_amount_of_64_bits_is_taken(amount: int) -> None:
    assert AmountBody("k", amount).command(1) == Increment(b"k", amount)


@pytest.mark.parametrize("amount", [-(2**63) - 1, 2**63])
def test_amount_beyond_64_bits_is_refused(amount: int) -> None:
    with pytest.raises(InvalidValue):
        AmountBody("k", amount).command(1)


def test_range_offset_beyond_64_bits_is_refused() -> None:
    body = decoder(RangeBody)(b'{"offset":9223372036854775808,"value":""}')
    with pytest.raises(InvalidValue, match="'offset'"):
        body.command(b"k")


def test_destination_body_makes_both_moves() -> None:
    body = DestinationBody("d", replace=True)
    assert body.rename(b"s", nx=True).nx is True
    assert body.copy(b"s").replace is True


def _lists_of(body: type[msgspec.Struct]) -> dict[str, int | None]:
    """Return the fields of a body that are lists, each with its bound."""
    found: dict[str, int | None] = {}
    for field in msgspec.structs.fields(body):
        kind = msgspec.inspect.type_info(field.type)
        for each in kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,):
            if isinstance(each, msgspec.inspect.ListType):
                found[field.name] = each.max_length
    return found


@pytest.mark.parametrize("name", BY_NAME)
def test_list_in_a_body_has_a_bound(name: str) -> None:
    operation = BY_NAME[name]
    assert None not in (_lists_of(operation.body) | _lists_of(operation.payload)).values()


def test_body_with_more_pairs_than_the_bound_names_the_field() -> None:
    pairs = b",".join([b'["a","b"]'] * 100_001)
    with pytest.raises(FieldInvalid, match=r"'pairs'.*100000"):
        decode_pairs(b'{"pairs":[' + pairs + b"]}")
