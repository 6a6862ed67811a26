"""What the server's own answers say beside their body."""

import pytest

from synap.http.api.cross_site import Cors, RefusalHeaders

APP = "https://app.example"


def told(cors: Cors | None, **headers: str) -> dict[bytes, bytes]:
    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return dict(RefusalHeaders(cors)(fields))


def test_refusal_has_the_clients_id_or_one_of_its_own() -> None:
    assert told(None, x_request_id="r-1")[b"x-request-id"] == b"r-1"
    assert told(None, x_request_id="r\x01")[b"x-request-id"].isalnum()
    assert told(None)[b"cache-control"] == b"no-store"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [([APP], APP, APP), ([APP], "https://evil.example", None), ("*", APP, "*")],
)
def test_refusal_can_be_read_by_pages_of_the_named_origins(
    origins: str | list[str], origin: str, allowed: str | None
) -> None:
    headers = told(Cors(allow_origins=origins, expose_headers=("Retry-After",)), origin=origin)
    assert headers.get(b"access-control-allow-origin") == (allowed.encode() if allowed else None)
    assert headers.get(b"vary") == (None if origins == "*" else b"Origin")
    assert headers.get(b"access-control-expose-headers") == (b"Retry-After" if allowed else None)
