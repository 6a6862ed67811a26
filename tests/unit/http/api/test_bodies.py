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
