"""Password hashes and API keys: made, and compared.

A password is hashed by scrypt of the standard library, with a salt of its own, in 32 MiB: twice
what RFC 7914 names for logins. The costs stand in the hash, so that they can rise later.

    scrypt$<log2 N>$<r>$<p>$<salt, base64>$<hash, base64>
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from base64 import b64decode, b64encode

from synap.auth.accounts import API_KEY_PREFIX

_LOG2_N, _R, _P = 15, 8, 1
_SALT_BYTES = 16
_HASH_BYTES = 32
# Twice what these costs need; OpenSSL refuses to use more.
_MAX_BYTES = 256 * (1 << _LOG2_N) * _R
_API_KEY_CHARACTERS = 32
_ALPHABET = string.ascii_letters + string.digits


def hash_password(password: str) -> str:
    """Return the hash to store; takes about 0.15 s of a core."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LOG2_N, _R, _P)
    return f"scrypt${_LOG2_N}${_R}${_P}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def verify_password(password: str, stored: str) -> bool:
    """Say whether `stored` is the hash of `password`; takes as long as making it did.

    Raises:
        ValueError: it is no hash of this form.
    """
    kind, log2_n, r, p, salt, digest = stored.split("$")
    if kind != "scrypt":
        raise ValueError(f"unknown password hash {kind}")
    made = _scrypt(password, b64decode(salt), int(log2_n), int(r), int(p))
    return hmac.compare_digest(made, b64decode(digest))


def new_api_key() -> str:
    """Return a new API key: 190 random bits."""
    return API_KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_API_KEY_CHARACTERS))


def new_id() -> str:
    """Return what tells a user from an earlier one of the same name."""
    return secrets.token_hex(8)


def _scrypt(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=_MAX_BYTES, dklen=_HASH_BYTES
    )
