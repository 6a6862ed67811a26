"""What commands say of a node that they get no answer from."""

from __future__ import annotations

import errno
import http.client
import os
import ssl
import urllib.error

import pytest

from workers.cli.silence import distrust_in, sentence

HTTP, HTTPS = "http://n:1/health", "https://n:1/health"


def refused_certificate(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: X] {message} (_ssl.c:1006)")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        (10, "certificate has expired", "put a new one in its place"),
        (18, "self-signed certificate", "name its authority by --cacert FILE"),
        (62, "Hostname mismatch, certificate is not valid for 'n'.", "ask it by a name"),
    ],
)
def test_certificate_that_is_refused_is_told_with_what_to_do(
    code: int, message: str, remedy: str
) -> None:
    told = urllib.error.URLError(refused_certificate(code, message))
    assert distrust_in(told) is not None
    words = sentence(HTTPS, told)
    assert words.startswith(f"{HTTPS} is not asked, for its certificate is refused: {message[:20]}")
    assert remedy in words
    assert "_ssl.c" not in words


def test_scheme_that_is_not_the_nodes_is_told() -> None:
    closed = http.client.RemoteDisconnected("Remote end closed connection without response")
    assert sentence(HTTP, closed).endswith("a node with TLS is asked by https://")
    assert "https://" not in sentence(HTTPS, closed).removeprefix(HTTPS)
    plain = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    plain.reason = "WRONG_VERSION_NUMBER"
    assert (
        sentence(HTTPS, plain)
        == f"{HTTPS} does not answer: it speaks no TLS there; ask it by http://"
    )


def test_number_of_an_error_is_left_out() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    assert (
        sentence(HTTP, urllib.error.URLError(refused))
        == f"{HTTP} does not answer: Connection refused"
    )
    assert distrust_in(refused) is None
