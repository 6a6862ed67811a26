"""Certificates, as OpenSSL sees them: the one that a node is served with, and the command line's.

The server itself is Gunicorn's worker, which reads the files again in each new process; here it is
said beforehand whether that will work.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping

from synap.config.loading import Config
from synap.errors import ConfigInvalid

CLIENT_CERTIFICATE_VARIABLE = "SYNAP_CLIENT_CERT"


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

    A node is checked against the authorities of the system, or those in the file that
    SSL_CERT_FILE names, as OpenSSL has it. SYNAP_CLIENT_CERT names a PEM file with a certificate
    and its private key.

    Raises:
        OSError: that file is not such a one.
    """
    context = ssl.create_default_context()
    path = environ.get(CLIENT_CERTIFICATE_VARIABLE)
    if path:
        context.load_cert_chain(path)
    return context
