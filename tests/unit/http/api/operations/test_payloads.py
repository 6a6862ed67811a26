"""Payloads of the command endpoint: what their fields come to."""

import pytest

from synap.commands.commands import Command
from synap.commands.keys import Copy, Delete
from synap.commands.strings import Append, GetSet, Increment, SetRange
from synap.http.api.bodies import decoder
from synap.http.api.operations.keyspace import ScanPayload
from synap.http.api.operations.operation import Write
from synap.http.api.operations.table import BY_NAME
from synap.http.api.operations.transactions import ClientBody
from synap.http.api.operations.whole_keys import DeletePayload, PairsPayload, SetBody
from synap.request_errors import FieldInvalid, FieldMissing

delete = decoder(DeletePayload)
pairs = decoder(PairsPayload)
scan = decoder(ScanPayload)


def test_delete_takes_one_key_or_several() -> None:
    assert delete(b'{"key":"a"}').command() == Delete((b"a",))
    assert delete(b'{"keys":["a","b"]}').command() == Delete((b"a", b"b"))
    assert delete(b'{"keys":[]}').command() == Delete(())
    with pytest.raises(FieldInvalid, match="exclude"):
        delete(b'{"key":"a","keys":["b"]}').command()
    with pytest.raises(FieldMissing, match="'key'"):
        delete(b"{}").command()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"pairs":[["a",null],["b","x"]]}',
        b'{"pairs":[{"key":"a","value":null},["b","x"]],"key":"ignored"}',
    ],
)
def test_pairs_are_objects_or_arrays(payload: bytes) -> None:
    assert pairs(payload).command(nx=False).pairs == ((b"a", b"null"), (b"b", b"x"))


def test_pairs_may_be_one_pair_alone() -> None:
    assert pairs(b'{"key":"a","value":null}').command(nx=False).pairs == ((b"a", b"null"),)
    with pytest.raises(FieldMissing, match="'pairs'"):
        pairs(b"{}").command(nx=False)
    with pytest.raises(FieldMissing, match="'value'"):
        pairs(b'{"key":"a"}').command(nx=False)


@pytest.mark.parametrize("cursor", [b"null", b"0", b'"0"', b'""'])
def test_scan_knows_the_cursors_that_mean_none(cursor: bytes) -> None:
    assert scan(b'{"cursor":' + cursor + b"}").place is None


@pytest.mark.parametrize(
    ("payload", "keys"),
    [(b"{}", 100), (b'{"limit":3}', 3), (b'{"count":4}', 4), (b'{"limit":3,"count":4}', 3)],
)
def test_scan_page_is_limit_before_count(payload: bytes, keys: int) -> None:
    assert scan(payload).page_keys == keys


@pytest.mark.parametrize(
    ("name", "payload", "command"),
    [
        ("kv.append", b'{"key":"k","value":[1, 2]}', Append(b"k", b"[1,2]")),
        ("kv.getset", b'{"key":"k","value":[1, 2]}', GetSet(b"k", b"[1,2]")),
        ("kv.setrange", b'{"key":"k","offset":3,"value":"x"}', SetRange(b"k", 3, b"x")),
        ("kv.decrby", b'{"key":"k","client_id":"c"}', Increment(b"k", -1)),
        ("key.copy", b'{"source":"k","destination":"d"}', Copy(b"k", b"d")),
    ],
)
def test_payload_is_the_body_with_its_key(name: str, payload: bytes, command: Command) -> None:
    operation = BY_NAME[name]
    assert isinstance(operation, Write)
    body = decoder(operation.payload)(payload)
    key = getattr(body, operation.key_field).encode() if operation.key_field else b""
    assert operation.prepare(key, body) == command


@pytest.mark.parametrize(
    ("fields", "has_condition"),
    [(b"", False), (b',"ttl":5', False), (b',"nx":true', True), (b',"if_version":0', True)],
)
def test_set_tells_whether_it_was_written_where_it_may_not_be(
    fields: bytes, has_condition: bool
) -> None:
    payload = decoder(SetBody)(b'{"key":"k","value":1' + fields + b"}")
    assert payload.has_condition is has_condition


def test_client_id_is_bounded() -> None:
    client = decoder(ClientBody, "payload")
    assert client(b"{}").client_id == ""
    with pytest.raises(FieldInvalid, match="'client_id'"):
        client(b'{"client_id":"' + b"x" * 257 + b'"}')


def test_commands_that_write_are_those_that_go_to_the_owner() -> None:
    reads = {name for name, operation in BY_NAME.items() if not operation.is_write}
    assert {"kv.get", "kv.mget", "kv.keys", "kv.ttl", "key.type", "memory.usage"} <= reads
    assert not reads & {"kv.set", "kv.getset", "kv.flushall", "key.copy", "transaction.watch"}
