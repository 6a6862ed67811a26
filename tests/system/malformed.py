"""Requests that no client should send: the corpus of `test_malformed.py`.

A case is what goes over one connection, and what may come back: one or more whole answers, each of
a status that the case allows, and then the connection's end. Each case ends by itself: by what is
wrong with it, by `Connection: close`, by the client's end, or by the server's patience.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
# A key that no case writes.
GET = b"GET /kv/get/none HTTP/1.1\r\n" + HOST
POST = b"POST /kv/set HTTP/1.1\r\n" + HOST
GOOD_BODY = b'{"key":"malformed","value":1}'

# Endpoints that take a body.
BODY_PATHS = (
    "/kv/set", "/kv/mset", "/kv/msetnx", "/kv/mget", "/kv/mdel", "/kv/incr", "/kv/decr",
    "/kv/incrbyfloat", "/kv/a/append", "/kv/a/setrange", "/kv/a/getset", "/kv/a/expire",
    "/key/a/rename", "/key/a/renamenx", "/key/a/copy", "/replication/follow",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One connection's worth.

    Attributes:
        name: For the report.
        sent: What the client sends.
        statuses: The statuses that its answers may have.
        answers: How many there are; None for none or any.
        ends: The client closes its side behind what it sent.
        is_http: Its framing is right, so that any server reads it the same way.
    """

    name: str
    sent: bytes
    statuses: frozenset[int]
    answers: int | None = 1
    ends: bool = False
    is_http: bool = False


def cases() -> Iterator[Case]:
    """Yield the whole corpus."""
    for group in (
        _lines, _header_fields, _lengths, _chunks, _sizes, _targets, _queries, _not_json,
        _wrong_shapes, _numbers, _content_types, _conditions, _pipelines, _half_closed, _slow,
    ):  # fmt: skip
        yield from group()


def body_request(path: str, body: bytes, *fields: bytes) -> bytes:
    """Return a POST whose framing is right."""
    lines = b"".join(field + b"\r\n" for field in fields)
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %b HTTP/1.1\r\n%b%b%b%b\r\n%b" % (
        path.encode(), HOST, CLOSE, lines, length, body,
    )  # fmt: skip


def get_request(path: str) -> bytes:
    """Return a GET whose framing is right."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _raw(prefix: str, table: dict[str, bytes], *statuses: int) -> Iterator[Case]:
    for name, sent in table.items():
        yield Case(f"{prefix}: {name}", sent, frozenset(statuses))


def _lines() -> Iterator[Case]:
    end = b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    versions = (b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3", b"HTTP/1", b"HTTP/1.1.1",
                b"http/1.1",
                b"HTTP/11", b"HTTP/-1.1", b"HTTP/1.\x00", b"HTTPS/1.1", b"ICE/1.0")  # fmt: skip
    yield from _raw(
        "version",
        {repr(each): b"GET / " + each + b"\r\n" + HOST + CLOSE + b"\r\n" for each in versions},
        400, 404,
    )  # fmt: skip
    methods = (b"get", b"G\x00T", b"GE T", b"G\tT", b"\xff", b"G(T", b"CONNECT", b"A" * 5000,
               b"PRI",
               b"\r\n\r\nGET;", b"{}", b"SOURCE", b"GET\x7f")  # fmt: skip
    yield from _raw("method", {repr(m[:9]): m + b" /health" + end for m in methods}, 400, 405)
    targets = (b"", b"*", b"kv", b"//", b"/a b", b"/a\tb", b"/a\x00b", b"/a\x7fb", b"/\xff",
               b"/a#b",
               b"http://", b"http:///kv", b"://", b"/a\rb", b"/a\nb",
               b"/kv/get/a HTTP/1.1 /b", b"\\kv\\get", b"?a=b")  # fmt: skip
    yield from _raw("target", {repr(t): b"GET " + t + end for t in targets}, 400, 404)
    # What names the root, which is there.
    roots = {repr(t): b"GET " + t + end for t in (b"http://h", b"ftp://h/", b" / ")}
    yield from _raw("root", roots, 200, 400, 404)
    yield from _raw(
        "line",
        {
            "http 0.9": b"GET /\r\n\r\n",
            "tabs": b"GET\t/\tHTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
            "bare lf": b"GET / HTTP/1.1\nHost: h\n\n",
            "bare cr": b"GET / HTTP/1.1\rHost: h\r\r",
            "leading blank": b" GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n",
            "junk behind the version": b"GET / HTTP/1.1 x\r\n" + HOST + CLOSE + b"\r\n",
            "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "tls": bytes.fromhex("16030100750100007103"),
            "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
            "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "redis": b"*1\r\n$4\r\nPING\r\n",
            "smtp": b"EHLO h\r\n",
            "nul": b"\x00" * 64,
            "json": b'{"command":"kv.get"}\r\n\r\n',
            "proxy protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n",
        },
        400, 404,
    )  # fmt: skip


def _header_fields() -> Iterator[Case]:
    fields = {
        "nul in a value": b"A: b\x00c",
        "nul in a name": b"A\x00: b",
        "cr in a value": b"A: b\rc",
        "lf in a value": b"A: b\nSet-Cookie: c",
        "control in a value": b"A: \x01",
        "delete in a value": b"A: \x7f",
        "blank in a name": b"A b: c",
        "blank before the colon": b"A : b",
        "no colon": b"A",
        "no name": b": b",
        "folded": b"A: b\r\n c",
        "a name beyond ascii": b"\xc3\xa4: b",
        "brackets in a name": b"A(b): c",
        "a bare cr line": b"\rA: b",
        "second host": b"Host: i",
        "obsolete line end": b"A: b\n",
    }
    yield from _raw(
        "header",
        {name: GET + field + b"\r\n" + CLOSE + b"\r\n" for name, field in fields.items()},
        400,
    )
    yield from _raw(
        "host",
        {
            "none": b"GET /health HTTP/1.1\r\n" + CLOSE + b"\r\n",
            "folded first": b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n",
            "twice": b"GET /health HTTP/1.1\r\nHost: localhost\r\nhOST: h\r\n\r\n",
        },
        400,
    )


def _lengths() -> Iterator[Case]:
    values = (b"", b" ", b"-1", b"+1", b"1.0", b"1e1", b"0x1", b"1 1", b"1,1", b"1, 1", b"a", b"1;",
              b"99999999999999999999", b"18446744073709551617", b"\xef\xbc\x91", b"1_0",
              b"'1'")  # fmt: skip
    yield from _raw(
        "length",
        {repr(v): POST + b"Content-Length: " + v + b"\r\n\r\n" + GOOD_BODY for v in values},
        400, 413,
    )  # fmt: skip
    yield from _raw(
        "framing",
        {
            "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 29\r\n\r\n" + GOOD_BODY,
            "same length twice": POST + b"Content-Length: 29\r\n" * 2 + b"\r\n" + GOOD_BODY,
            "length, then chunks": POST
            + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "chunks, then length": POST
            + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            "two codings": POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
            "coding list": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "gzip": POST + b"Transfer-Encoding: gzip\r\n\r\n",
            "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
            "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
            "vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            "blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "empty": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
            "chunks in 1.0": b"POST /kv/set HTTP/1.0\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "upgrade with a body": POST
            + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx",
        },
        400,
    )
    yield from _raw("expect", {"tea": POST + b"Expect: tea\r\nContent-Length: 1\r\n\r\nx"}, 417)


def _chunks() -> Iterator[Case]:
    head = POST + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n"
    bodies = {
        "no size": b"\r\n",
        "no number": b"zz\r\n",
        "negative": b"-1\r\nx\r\n",
        "signed": b"+1\r\nx\r\n",
        "prefixed": b"0x1\r\nx\r\n",
        "overflow": b"fffffffffffffffff\r\n",
        "blank first": b" 1\r\nx\r\n",
        "longer than its size": b"1\r\nxx\r\n0\r\n\r\n",
        "shorter than its size": b"5\r\nx\r\n0\r\n\r\n\r\n",
        "bare lf": b"1\nx\n0\n\n",
        "nul": b"1\x00\r\nx\r\n",
        "no line end behind": b"1\r\nx0\r\n\r\n",
        "broken extension": b"1;\x00=\x01\r\nx\r\n",
        "broken trailer": b"0\r\nA\x00: b\r\n\r\n",
        "trailer with a line feed": b"0\r\nA: b\nC: d\r\n\r\n",
        "underscore": b"1_0\r\n",
        "comma": b"1,0\r\n",
    }
    yield from _raw("chunk", {name: head + body for name, body in bodies.items()}, 400)


def _sizes() -> Iterator[Case]:
    end = b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    yield from _raw(
        "line size",
        {str(n): b"GET /kv/get/" + b"a" * n + end for n in (9_000, 70_000, 1_000_000)},
        414,
    )
    yield from _raw("query size", {"9000": b"GET /kv/scan?prefix=" + b"a" * 9_000 + end}, 414)
    yield from _raw(
        "header size",
        {
            "17 KiB": GET + b"A: " + b"b" * 17_408 + b"\r\n\r\n",
            "1 MB": GET + b"A: " + b"b" * 1_000_000 + b"\r\n\r\n",
            "long name": GET + b"A" * 20_000 + b": b\r\n\r\n",
            "101 fields": GET + b"A: b\r\n" * 101 + b"\r\n",
            "10,000 fields": GET + b"A: b\r\n" * 10_000 + b"\r\n",
            "a long cookie": GET + b"Cookie: " + b"a=b; " * 4_000 + b"\r\n\r\n",
            "blanks": GET + b"A:" + b" " * 30_000 + b"\r\n\r\n",
        },
        431,
    )
    yield from _raw(
        "body size",
        {
            "told": POST + b"Content-Length: 1048577\r\n\r\n",
            "told, with it": POST + b"Content-Length: 1100000\r\n\r\n" + b"x" * 1_100_000,
            "told in terabytes": POST + b"Content-Length: 1099511627776\r\n\r\nx",
            "in chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n"
            + b"x" * 0x8000 + (b"\r\n8000\r\n" + b"x" * 0x8000) * 33,
            "expected": POST + b"Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n",
        },
        413,
    )  # fmt: skip
    yield _framed("value size", body_request("/kv/set", _set(value="x" * 200_000)), 413)
    for length in (504, 1_000, 5_000):
        yield _framed(f"key size in the path: {length}", b"GET /kv/get/" + b"k" * length + end, 400)
        yield _framed(f"key size: {length}", body_request("/kv/set", _set(key="k" * length)), 400)
    yield _framed("no key in the path", b"GET /kv/get/" + end, 400)
    yield _framed("no key", body_request("/kv/set", _set(key="")), 400)


def _targets() -> Iterator[Case]:
    keys = ("%", "%4", "%zz", "%FF", "%C3", "%ED%A0%80", "%F4%90%80%80", "%C0%AF", "%80", "%00%FF",
            "a%",
            "%%30", "%u0041")  # fmt: skip
    for key in keys:
        yield _framed(f"key in the path: {key}", get_request(f"/kv/get/{key}"), 400, 404)
    injected = (
        "a\r\nSet-Cookie: b",
        "a\r\n\r\nHTTP/1.1 200 OK",
        "\x00",
        "\x1b[2J",
        "a\nb",
        "<script>",
    )
    for word in injected:
        path = f"/kv/get/{quote(word, safe='')}"
        yield _framed(f"injected: {word!r}", get_request(path), 404)
        sent = get_request(path.replace("/get/", "/del/")).replace(b"GET", b"DELETE", 1)
        yield _framed(f"injected, to delete: {word!r}", sent, 200)
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/kv/../health", "/health/",
                 "/kv/get/a/../b", "/%00", "/kv/%67et/a/b", "/KV/GET/a",
                 "/.git/config"):  # fmt: skip
        yield _framed(f"path: {path}", get_request(path), 400, 404)


def _queries() -> Iterator[Case]:
    queries = (
        "/kv/a/getrange", "/kv/a/getrange?start=0", "/kv/a/getrange?start=a&end=1",
        "/kv/a/getrange?start=1.5&end=2", "/kv/a/getrange?start=&end=",
        "/kv/a/getrange?start=0&start=1&end=2",
        "/kv/scan?limit=0", "/kv/scan?limit=-1", "/kv/scan?limit=a", "/kv/scan?limit=1&limit=2",
        "/kv/scan?limit=" + "9" * 5_000, "/kv/scan?cursor=%FF", "/kv/scan?cursor=!",
        "/kv/scan?cursor=a",
        "/kv/scan?cursor=" + "A" * 3_000, "/kv/scan?prefix=" + "a" * 1_000,
        "/kv/scan?prefix=a&prefix=b",
        "/kv/scan?pattern=" + "*" * 1_000, "/kv/scan?limit=%FF", "/kv/scan?limit=1%00",
    )  # fmt: skip
    for path in queries:
        yield _framed(f"query: {path[:60]}", get_request(path), 400, 404, 422)


def _framed(name: str, sent: bytes, *statuses: int) -> Case:
    return Case(name, sent, frozenset(statuses), is_http=True)


def _set(**fields: object) -> bytes:
    return json.dumps({"key": "malformed", "value": 1} | fields).encode()


def _deep(opening: bytes, closing: bytes, depth: int) -> bytes:
    return b'{"key":"malformed","value":' + opening * depth + b"1" + closing * depth + b"}"


def _not_json() -> Iterator[Case]:
    bodies = (
        b"", b" ", b"{", b"}", b"[", b"nope", b"'a'", b"{'key':1}", b'{"key"}', b'{"key":}',
        b'{"key":"a",}',
        b'{"key":"a" "value":1}', b'{"key":"a","value":01}', b'{"key":"a","value":.5}',
        b'{"key":"a","value":+1}',
        b'{"key":"a","value":NaN}', b'{"key":"a","value":Infinity}', b'{"key":"a","value":0x1}',
        b'{"key":"a","value":"\\x41"}', b'{"key":"a","value":"\\u12"}',
        b'{"key":"a","value":"\\ud800"}',
        b'{"key":"\\udc00","value":1}', b'{"key":"a\nb","value":1}', b'{"key":"a","value":"\x00"}',
        b'{"key":"a","value":"\xff"}', b'{"key":"\xc3","value":1}',
        b'\xef\xbb\xbf{"key":"a","value":1}',
        b'{"key":"a","value":1}}', b'{"key":"a","value":1} x', b"\x00", b"\x1f\x8b\x08\x00",
        b"\xff\xfe{\x00}\x00",
        b'{"key":"a","value":tru}', b'{"key":"a","value":"', b'{"key":"a","value":1', b"/**/{}",
        b"key=a&value=1",
        b"<xml/>", b"\xed\xa0\x80",
    )  # fmt: skip
    for body, path in itertools.product(bodies, ("/kv/set", "/kv/mset")):
        yield _framed(f"not JSON: {body[:40]!r} to {path}", body_request(path, body), 400, 422)
    for depth in (2_000, 10_000, 100_000):
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            for body in (_deep(opening, closing, depth), opening * depth):
                for path in ("/kv/set", "/kv/mget"):
                    name = f"nested: {depth} {opening!r} to {path}, {len(body)} bytes"
                    yield _framed(name, body_request(path, body), 400, 422)


def _wrong_shapes() -> Iterator[Case]:
    shapes = (b"null", b"true", b"1", b'"a"', b"[]", b"{}", b'{"key":null}', b'{"key":1,"value":1}',
              b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":"a"}', b'{"pairs":[[]]}',
              b'{"pairs":[["a"]]}',
              b'{"pairs":[["a",1,2]]}', b'{"pairs":[{"key":"a"}]}', b'{"pairs":{"a":1}}',
              b'{"key":["a"],"value":1}', b'{"destination":1}', b'{"ttl":"1"}',
              b'{"master_address":1}')  # fmt: skip
    for body, path in itertools.product(shapes, BODY_PATHS):
        if b'"value":1}' in body and path in ("/kv/a/append", "/kv/a/getset"):
            continue
        yield _framed(f"shape: {body!r} to {path}", body_request(path, body), 400, 409, 422)


def _numbers() -> Iterator[Case]:
    numbers = (b"-1", b"1.5", b"1e3", b"1e400", b"-1e400", b"9223372036854775808",
               b"18446744073709551616",
               b"1" + b"0" * 400, b"-9223372036854775809", b'"1"', b"true", b"[]",
               b"1e-400")  # fmt: skip
    for number in numbers:
        # As floats these are whole, and taken as the number that they are.
        refused = (200, 400, 422) if number in (b"1e3", b"1e-400") else (400, 422)
        for field in (b"ttl", b"if_version"):
            body = b'{"key":"malformed","value":1,"' + field + b'":' + number + b"}"
            yield _framed(
                f"number: {field!r} {number[:24]!r}", body_request("/kv/set", body), *refused
            )
        body = b'{"key":"malformed","value":1,"expiry":{"type":"seconds","value":' + number + b"}}"
        yield _framed(f"number: expiry {number[:24]!r}", body_request("/kv/set", body), *refused)
        body = b'{"offset":' + number + b',"value":"x"}'
        yield _framed(
            f"number: offset {number[:24]!r}", body_request("/kv/m/setrange", body), 413, *refused
        )
    for number in (
        b"1.5",
        b"1e400",
        b"9223372036854775808",
        b"-9223372036854775809",
        b'"1"',
        b"null",
        b"[1]",
    ):
        body = b'{"key":"malformed-number","amount":' + number + b"}"
        yield _framed(f"number: amount {number[:24]!r}", body_request("/kv/incr", body), 400, 422)
    for offset in (b"9223372036854775807", b"4611686018427387904", b"1000000000000"):
        body = b'{"offset":' + offset + b',"value":"x"}'
        yield _framed(
            f"number: far offset {offset!r}", body_request("/kv/m/setrange", body), 400, 413, 422
        )


def _content_types() -> Iterator[Case]:
    types = (b"text/plain", b"application/xml", b"multipart/form-data; boundary=x",
             b"application/jsonx",
             b"application", b"/", b";", b"application/json/x", b"\xff", b"a" * 4_000)  # fmt: skip
    for each in types:
        sent = body_request("/kv/set", GOOD_BODY, b"Content-Type: " + each)
        yield _framed(f"content type: {each[:40]!r}", sent, 415)
    for coding in (b"gzip", b"br", b"deflate"):
        sent = body_request("/kv/set", b"\x1f\x8b\x08", b"Content-Encoding: " + coding)
        yield _framed(f"content encoding: {coding!r}", sent, 400, 415)


def _conditions() -> Iterator[Case]:
    values = (
        b"-1",
        b"a",
        b"1.5",
        b"1 1",
        b"9" * 40,
        b"0x1",
        b"\xb2",
        b"\xff",
        b",",
        b"99999999999999999999",
    )
    for value in values:
        sent = GET + CLOSE + b"X-Synap-Min-Offset: " + value + b"\r\n\r\n"
        yield _framed(f"min offset: {value!r}", sent, 400)
        sent = body_request("/kv/set", GOOD_BODY, b"X-Synap-Min-Replicas: " + value)
        yield _framed(f"min replicas: {value!r}", sent, 400)


def _pipelines() -> Iterator[Case]:
    get = GET + b"\r\n"
    last = GET + CLOSE + b"\r\n"
    smuggled = b"GET /kv/get/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    yield Case("pipeline: garbage behind", get + b"\x00\x01\x02", frozenset({404, 400}), 2)
    yield Case("pipeline: garbage behind many", get * 50 + b"\x16\x03", frozenset({404, 400}), 51)
    yield Case("pipeline: 1,000 requests", get * 999 + last, frozenset({404}), 1000, is_http=True)
    yield Case("pipeline: behind the last", last + get * 10, frozenset({404}), 1)
    body = body_request("/kv/set", b"{").replace(CLOSE, b"")
    yield Case("pipeline: bad JSON, then good", body + last, frozenset({400, 404}), 2, is_http=True)
    yield Case(
        "pipeline: a body for a GET",
        b"GET /kv/get/a HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nGET /" + last,
        # A body where none means something is refused; the next request is read after it.
        frozenset({400, 404}),
        2,
        is_http=True,
    )
    yield Case(
        "pipeline: a request inside a refused body",
        POST + b"Content-Length: 1048577\r\n\r\n" + smuggled * 5,
        frozenset({413}),
    )
    yield Case(
        "pipeline: a request behind two lengths",
        POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(smuggled) + smuggled,
        frozenset({400}),
    )
    yield Case(
        "pipeline: a request behind a length with chunks",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
        frozenset({400}),
    )


def _half_closed() -> Iterator[Case]:
    whole = body_request("/kv/set", GOOD_BODY)
    places = (1, 5, 14, 26, 40, len(whole) - len(GOOD_BODY) - 1, len(whole) - 5, len(whole) - 1)
    for place in places:
        yield Case(f"half closed: {place} bytes", whole[:place], frozenset({400}), ends=True)
    yield Case("half closed: nothing", b"", frozenset(), 0, ends=True)
    yield Case("half closed: a line end", b"\r\n", frozenset({400}), None, ends=True)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for name, rest in {
        "no chunk": b"",
        "half a chunk": b"9\r\nabc",
        "no last": b"1\r\nx\r\n",
    }.items():
        yield Case(f"half closed: {name}", chunked + rest, frozenset({400}), ends=True)
    get = GET + b"\r\n"
    yield Case("half closed: whole", get, frozenset({404}), ends=True)
    yield Case("half closed: pipelined", get * 20, frozenset({404}), 20, ends=True)
    yield Case("half closed: one and a half", get + get[:20], frozenset({404, 400}), 2, ends=True)


def _slow() -> Iterator[Case]:
    whole = body_request("/kv/set", GOOD_BODY)
    for place in (3, 14, 30, len(whole) - 3):
        yield Case(f"slow: {place} bytes", whole[:place], frozenset({408}))
    yield Case("slow: nothing", b"", frozenset({408}), None)
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
    yield Case("slow: chunks", chunked, frozenset({408}))
    expecting = POST + b"Expect: 100-continue\r\nContent-Length: 29\r\n\r\n"
    yield Case("slow: continue", expecting, frozenset({100, 408}), 2)
    behind = GET + b"\r\n" + GET[:20]
    yield Case("slow: behind another", behind, frozenset({404, 408}), 2)
