"""Why a node gave no answer, in words that lead to the remedy."""

from __future__ import annotations

import http.client
import ssl
import urllib.error

_EXPIRED = 10
_TLS_HINTS = {
    "WRONG_VERSION_NUMBER": "it speaks no TLS there; ask it by http://",
    "HTTP_REQUEST": "it speaks no TLS there; ask it by http://",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate; name yours by --cert FILE",
}


def distrust_in(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return the fault of the node's certificate where that is why it was not asked."""
    cause = _cause_of(error)
    return cause if isinstance(cause, ssl.SSLCertVerificationError) else None


def sentence(url: str, error: BaseException) -> str:
    """Return what went wrong with a call to `url`."""
    distrusted = distrust_in(error)
    if distrusted is not None:
        return (
            f"{url} is not asked, for its certificate is refused: "
            f"{distrusted.verify_message.rstrip('.')}; {_remedy_of(distrusted)}"
        )
    return f"{url} does not answer: {reason_of(error, url)}"


def reason_of(error: BaseException, url: str = "") -> str:
    """Return what went wrong, without the words that urllib, ssl and errno put around it."""
    cause = _cause_of(error)
    if isinstance(cause, http.client.RemoteDisconnected) and url.startswith("http://"):
        return "it closed the connection; a node with TLS is asked by https://"
    if isinstance(cause, ssl.SSLError):
        return _TLS_HINTS.get(cause.reason or "") or str(cause)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause)


def _remedy_of(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "put a new one in its place; --insecure goes without the check meanwhile"
    if "mismatch" in error.verify_message:
        return "ask it by a name that stands in the certificate"
    return "name its authority by --cacert FILE, or go without the check by --insecure"


def _cause_of(error: BaseException) -> object:
    return error.reason if isinstance(error, urllib.error.URLError) else error
