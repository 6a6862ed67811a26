"""Bodies: what the decoder says of a fault."""

import pytest

from synap.http.api.bodies import decoder
from synap.http.api.operations.whole_keys import PairsBody, SetBody
from synap.request_errors import FieldInvalid, InvalidRequest

set_body = decoder(SetBody)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}", "missing field 'key'"),
        (b'{"key":1,"value":1}', "field 'key': expected a string, got an integer"),
        (b'{"key":"k","value":1,"ttl":-1}', "field 'ttl': expected an integer >= 0"),
        (b'{"key":"k","value":1,"get":"x"}', "field 'get': expected true or false, got a string"),
        (b'{"key":"k","value":1,"expiry":{"type":"seconds"}}', "missing field 'expiry.value'"),
        (
            b'{"key":"k","value":1,"expiry":{"type":"hours","value":1}}',
            "field 'expiry.type': 'hours' is none of seconds, milliseconds, unix_seconds, "
            "unix_milliseconds",
        ),
        (b"[]", "the body: expected an object, got an array"),
    ],
)
def test_decoder_names_the_field_that_is_wrong(text: bytes, message: str) -> None:
    with pytest.raises(FieldInvalid) as caught:
        set_body(text)
    assert caught.value.message == message


def test_decoder_names_the_place_in_a_list() -> None:
    with pytest.raises(FieldInvalid, match=r"'pairs\[1\]\.value'"):
        decoder(PairsBody)(b'{"pairs":[["a",1],{"key":"b"}]}')


@pytest.mark.parametrize("text", [b"", b"{", b'{"key":"\xff"}', b'{"value":' + b"[" * 9000])
def test_decoder_refuses_what_is_not_json(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        set_body(text)


def test_decoder_takes_a_whole_number_however_it_is_written() -> None:
    body = set_body(b'{"key":"k","value":1.0,"ttl":3600.0,"expiry":{"type":"seconds","value":6e1}}')
    assert (body.ttl, body.expiry and body.expiry.value) == (3600, 60)
    assert bytes(body.value) == b"1.0"


def test_decoder_takes_whole_numbers_of_all_elements_of_a_list() -> None:
    text = b'{"pairs":[["a",1.5]' + b',{"key":"b","value":2,"ttl":60.0}' * 1000 + b"]}"
    pairs = decoder(PairsBody)(text).pairs
    assert [each.ttl for each in pairs if not isinstance(each, tuple)] == [60] * 1000


@pytest.mark.parametrize("ttl", [b"1.5", b"1e300", b"9007199254740993.0", b"-1.0"])
def test_decoder_refuses_a_number_that_is_not_whole(ttl: bytes) -> None:
    with pytest.raises(FieldInvalid, match="'ttl': expected an integer"):
        set_body(b'{"key":"k","value":1,"ttl":' + ttl + b"}")


def test_decoder_names_half_a_character_in_a_key() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        set_body(rb'{"key":"cut \ud83d","value":1}')
