"""The trace that a request is part of."""

import pytest

from synap.http.api.traces import Trace, trace_in, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (PARENT, Trace(TRACE, SPAN, True)),
        (b" " + PARENT[:-1] + b"0 ", Trace(TRACE, SPAN, False)),
        (b"01" + PARENT[2:] + b"-of-a-later-version", Trace(TRACE, SPAN, True)),
        (PARENT.upper(), None), (b"ff" + PARENT[2:], None), (PARENT[:-3], None),
        (b"00-" + b"0" * 32 + PARENT[35:], None), (b"00-evil\nline-01", None), (None, None),
        (b"", None),
    ],
)  # fmt: skip
def test_trace_is_the_one_that_the_header_names(header: bytes | None, trace: Trace | None) -> None:
    assert trace_of(header) == trace


@pytest.mark.parametrize("name", [b"traceparent: ", b"Traceparent:", b"TRACEPARENT:\t"])
def test_trace_is_found_in_a_head(name: bytes) -> None:
    head = b"POST /kv/set HTTP/1.1\r\nHost: h\r\n" + name + PARENT + b"\r\nA: b\r\n\r\n"
    assert trace_in(head + b"{}") == Trace(TRACE, SPAN, True)


def test_trace_in_a_body_is_none() -> None:
    head = b"POST /kv/set HTTP/1.1\r\nHost: h\r\n\r\n"
    assert trace_in(head + b"\r\ntraceparent: " + PARENT + b"\r\n") is None
