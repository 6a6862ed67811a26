"""Certificates, as OpenSSL sees them: the one that a node is served with, and the command line's.

The server itself is Gunicorn's worker, which reads the files again in each new process; here it is
said beforehand whether that will work.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from synap.config.keys import Config
from synap.config.variables import (
    CA_VARIABLE,
    CLIENT_CERTIFICATE_VARIABLE,
    CLIENT_KEY_VARIABLE,
    INSECURE_VARIABLE,
)
from synap.errors import ConfigInvalid

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", re.ASCII)
# Tags of DER: a version, which old certificates lack, and a time with two digits for the year.
_VERSION_TAG, _SHORT_TIME_TAG = 0xA0, 0x17


def check_tls(config: Config) -> None:
    """Look at the files of `server.tls`; does nothing where there are none.

    Raises:
        ConfigInvalid: one can't be read, or they do not belong together.
    """
    tls = config.server.tls
    if tls.cert_path is None:
        return
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    faults = []
    try:
        # A password would be asked for on the terminal.
        context.load_cert_chain(tls.cert_path, tls.key_path, password="")
    except (OSError, ValueError) as error:
        faults.append(
            f"server.tls.cert_path = {tls.cert_path}, server.tls.key_path = {tls.key_path}: "
            f"not a certificate in PEM with its private key without a password: {error}"
        )
    try:
        if tls.client_ca_path is not None:
            context.load_verify_locations(tls.client_ca_path)
    except OSError as error:
        faults.append(
            f"server.tls.client_ca_path = {tls.client_ca_path}: no certificates in PEM: {error}"
        )
    if faults:
        raise ConfigInvalid(faults)


def client_context(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return how the command line checks a node, and what it shows one that asks.

    A node is checked against the authorities in the PEM file that SYNAP_CA_CERT names, else those
    in that of SSL_CERT_FILE, as OpenSSL has it, else the system's; with SYNAP_INSECURE=1 it is not
    checked. SYNAP_CLIENT_CERT names a PEM file with a certificate, SYNAP_CLIENT_KEY one with its
    private key, where that is not in the same file.

    Raises:
        ConfigInvalid: a file is not such a one.
    """
    authorities = environ.get(CA_VARIABLE) or None
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ConfigInvalid([f"{authorities}: no certificates in PEM: {error}"]) from error
    if environ.get(INSECURE_VARIABLE) == "1":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    path = environ.get(CLIENT_CERTIFICATE_VARIABLE)
    if path:
        try:
            # A password would be asked for on the terminal.
            context.load_cert_chain(path, environ.get(CLIENT_KEY_VARIABLE) or None, password="")
        except (OSError, ValueError) as error:
            raise ConfigInvalid(
                [f"{path}: no certificate in PEM with its private key: {error}"]
            ) from error
    return context


def expires_at(path: Path) -> int:
    """Return when the first of the certificates in the PEM file at `path` expires.

    Returns:
        Seconds since 1970.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds no certificate, or one that is none.
    """
    try:
        return expiry_in(path.read_text("ascii", errors="replace"))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def expiry_in(pem: str) -> int:
    """Return when the first of the certificates in a text of PEM expires, in seconds since 1970.

    Raises:
        ValueError: it holds no certificate, or one that is none; the words go with its name.
    """
    found = _CERTIFICATE.findall(pem)
    if not found:
        raise ValueError("holds no certificate")
    try:
        return min(_not_after(ssl.PEM_cert_to_DER_cert(each)) for each in found)
    except (IndexError, ValueError) as error:
        raise ValueError(f"holds a certificate that can't be read: {error}") from error


def _not_after(der: bytes) -> int:
    """Return the end of a certificate's validity: RFC 5280, 4.1."""
    _, at, _ = _element(der, 0)
    _, at, _ = _element(der, at)
    tag, _, end = _element(der, at)
    # Behind the version: serial number, algorithm and issuer.
    skipped = 3 if tag == _VERSION_TAG else 2
    for _ in range(skipped):
        _, _, end = _element(der, end)
    _, at, _ = _element(der, end)
    _, _, at = _element(der, at)
    tag, at, end = _element(der, at)
    text = der[at:end].decode("ascii")
    if tag == _SHORT_TIME_TAG:
        # Up to 2049 by two digits, by four after that.
        text = ("19" if text >= "50" else "20") + text
    return int(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element of DER at `at`, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    return tag, at, at + length
