"""Routes on the raw path, and keys out of it."""

from typing import Any

import falcon.testing
import pytest

from synap.http.api.request import Request
from synap.http.api.routing import KeyConverter, KvKeyConverter, RawPathRouter
from synap.request_errors import KeyInvalid


class Resource:
    async def on_get(self, req: Request, resp: falcon.asgi.Response, **params: bytes) -> None: ...

    async def on_post_part(
        self, req: Request, resp: falcon.asgi.Response, **params: bytes
    ) -> None: ...


@pytest.fixture
def router() -> RawPathRouter:
    router = RawPathRouter()
    resource = Resource()
    for template in ("/kv/get/{key:key}", "/kv/scan", "/key/{key:key}/type"):
        router.add_route(template, resource, _asgi=True)
    router.add_route("/kv/{key:kv_key}/append", resource, suffix="part", _asgi=True)
    return router


def _find(router: RawPathRouter, raw_path: bytes) -> tuple[str, dict[str, Any]] | None:
    scope = falcon.testing.create_scope("/") | {"raw_path": raw_path}
    found = router.find("/", Request(scope, None))
    return None if found is None else (found[3], found[2])


@pytest.mark.parametrize(
    ("raw_path", "template", "key"),
    [
        (b"/kv/get/a", "/kv/get/{key:key}", b"a"),
        (b"/kv/get/a%2Fb", "/kv/get/{key:key}", b"a/b"),
        (b"/kv/get/%C3%BC", "/kv/get/{key:key}", "ü".encode()),
        (b"/kv/get/\xc3\xbc", "/kv/get/{key:key}", "ü".encode()),
        (b"/kv/get/a+b", "/kv/get/{key:key}", b"a+b"),
        (b"/kv/a%2Fb/append", "/kv/{key:kv_key}/append", b"a/b"),
        (b"/key/scan/type", "/key/{key:key}/type", b"scan"),
    ],
)
def test_find_gives_the_template_and_the_decoded_key(
    router: RawPathRouter, raw_path: bytes, template: str, key: bytes
) -> None:
    assert _find(router, raw_path) == (template, {"key": key})


def test_find_of_a_route_without_a_field_gives_no_key(router: RawPathRouter) -> None:
    assert _find(router, b"/kv/scan") == ("/kv/scan", {})


@pytest.mark.parametrize(
    "raw_path", [b"/", b"/kv/get/a/b", b"/kv/scan/append", b"/kv/a/nope", b"/kv/scan/", b"/KV/scan"]
)
def test_find_of_an_unknown_path_gives_none(router: RawPathRouter, raw_path: bytes) -> None:
    assert _find(router, raw_path) is None


def test_find_without_a_raw_path_takes_the_decoded_one(router: RawPathRouter) -> None:
    scope = falcon.testing.create_scope("/")
    del scope["raw_path"]
    found = router.find("/kv/get/ü", Request(scope, None))
    assert found[2] == {"key": "ü".encode()}


def test_methods_of_a_route_send_head_where_get_goes(router: RawPathRouter) -> None:
    methods = router.find("/kv/scan")[1]
    assert methods["HEAD"] == methods["GET"]
    assert methods["BREW"] is methods["DELETE"]


@pytest.mark.parametrize("segment", ["", "%FF", "%C3", "\xff", "x" * 504, "%41" * 504])
def test_key_converter_refuses_what_is_no_key(segment: str) -> None:
    with pytest.raises(KeyInvalid):
        KeyConverter().convert(segment)


def test_kv_key_converter_leaves_fixed_words_alone() -> None:
    assert KvKeyConverter().convert("scan") is None
    assert KvKeyConverter().convert("%73can") is None
    assert KvKeyConverter().convert("scans") == b"scans"
