"""Keys of CurveZMQ: where they come from, and what a node knows of its cluster's.

With `replication.secret` two key pairs are derived from it, that of whoever listens and that of
whoever connects, so that knowing the secret is being a member. With `replication.curve` each node
has one of its own: a secret key is 40 characters of Z85 in a file that its owner alone may read;
anything else is refused before a socket opens. `load_keys` is for each process that opens
replication's sockets, and for the supervisor, so that a node with a bad file does not start.

Source: docs/protocol.md, "Encryption".
"""

from __future__ import annotations

import os
import secrets
import stat
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq
from zmq.utils import z85

from synap.disk import sync_directory, write_all
from synap.errors import ConfigInvalid, StartError

if TYPE_CHECKING:
    from synap.config.keys import Config

_FIELD = "replication.curve.secret_key_file"
# A key, and whatever white space an editor put after it.
_LARGEST_FILE_BYTES = 64
# Tell the derived keys apart, and from whatever else might be derived from the same secret.
_LISTENING, _CONNECTING = b"synap listens", b"synap connects"
_KEY_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Keys(msgspec.Struct, frozen=True):
    """What a node needs of CurveZMQ, in either role. Keys are Z85 but for `allowed`.

    Attributes:
        public: Its own public key, which it connects with.
        secret: Its own secret key.
        listening_secret: The secret key that it listens with.
        servers: Public keys that its master may have, at least one.
        allowed: Public keys that its replicas may have, each 32 bytes.
        is_shared: All are derived from one secret of the whole cluster.
    """

    public: bytes
    secret: bytes
    listening_secret: bytes
    servers: tuple[bytes, ...]
    allowed: frozenset[bytes]
    is_shared: bool = False

    @property
    def setting(self) -> str:
        """The key of the configuration that they come from."""
        return "replication.secret" if self.is_shared else "replication.curve"

    def __repr__(self) -> str:
        """Keep the secret out of logs and tracebacks."""
        return f"Keys({self.public.decode()})"


class MasterKeys:
    """The public keys that a master may have, tried in turn.

    A peer that was called by another key than its own says nothing, so that there is no other way
    to know which of them a newly promoted master has.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._servers = keys.servers if keys is not None else (b"",)
        self._at = 0
        self._tried = 0

    @property
    def current(self) -> bytes:
        """The key to call the master by; empty without encryption."""
        return self._servers[self._at]

    @property
    def has_others(self) -> bool:
        """Whether there is another key to try."""
        return len(self._servers) > 1

    def turn(self) -> bool:
        """Go on to the next key; return False where that ends a round of them all."""
        self._at = (self._at + 1) % len(self._servers)
        self._tried = (self._tried + 1) % len(self._servers)
        return self._tried > 0

    def begin_round(self) -> None:
        """Count from here: the current key is as good as any."""
        self._tried = 0


def load_keys(config: Config) -> Keys | None:
    """Return the keys that `config` names, or None where replication is not encrypted.

    Raises:
        ConfigInvalid: The file of the secret key can't be used.
    """
    if config.replication.secret is not None:
        return keys_of_secret(config.replication.secret.get_secret_value())
    curve = config.replication.curve
    if not curve.enabled:
        return None
    assert curve.secret_key_file is not None, "the configuration was checked"
    secret = _read_secret(curve.secret_key_file)
    public = _public_key_of(curve.secret_key_file, secret)
    if curve.public_key not in (None, public.decode()):
        raise _refusal(
            curve.secret_key_file,
            f"it belongs to the public key {public.decode()}, not to replication.curve.public_key",
        )
    return Keys(
        public,
        secret,
        secret,
        tuple(key.encode() for key in curve.server_key),
        frozenset(z85.decode(key) for key in curve.allowed_keys),
    )


def keys_of_secret(secret: str) -> Keys:
    """Return the keys of every node that knows `secret`: what `replication.secret` is."""
    listening, connecting = _derived_key(secret, _LISTENING), _derived_key(secret, _CONNECTING)
    server, member = zmq.curve_public(listening), zmq.curve_public(connecting)
    allowed = frozenset((z85.decode(member),))
    return Keys(member, connecting, listening, (server,), allowed, is_shared=True)


def make_secret_key(path: Path) -> str:
    """Write a new secret key to `path`, durably and for the owner alone; return its public key.

    Raises:
        StartError: There is a file already, or the folder can't be written to.
    """
    public, secret = zmq.curve_keypair()
    try:
        _write_new(path, secret)
    except FileExistsError as error:
        raise StartError(f"{path} exists and is left as it is; choose another name") from error
    return public.decode()


def make_cluster_secret(path: Path) -> bool:
    """Write a new secret of a cluster to `path`, as `make_secret_key` does, where there is none.

    Returns:
        Whether it was made; False leaves the file that is there as it is.

    Raises:
        StartError: The folder can't be written to.
    """
    try:
        _write_new(path, secrets.token_hex(_KEY_BYTES).encode())
    except FileExistsError:
        return False
    return True


def _derived_key(secret: str, label: bytes) -> bytes:
    # A key of BLAKE2b is at most 64 bytes, the secret may be longer.
    key = blake2b(secret.encode(), digest_size=_KEY_BYTES).digest()
    return bytes(z85.encode(blake2b(label, key=key, digest_size=_KEY_BYTES).digest()))


def _write_new(path: Path, text: bytes) -> None:
    """Write a line to a new file, whole under its name, durably and for the owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(file, text + b"\n")
            os.fsync(file)
            # Unlike a rename it leaves what is there.
            os.link(temporary, path)
        finally:
            os.close(file)
            temporary.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}") from error


def _read_secret(path: Path) -> bytes:
    try:
        # A pipe without a writer would hold the node up.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _refusal(path, f"it can't be read: {error.strerror}") from error
    try:
        # What was opened is looked at, not what has the name a moment later.
        _check_access(path, os.fstat(file))
        content = os.read(file, _LARGEST_FILE_BYTES + 1)
    finally:
        os.close(file)
    return content.strip() if len(content) <= _LARGEST_FILE_BYTES else b""


def _check_access(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(path, "it is no file")
    if found.st_uid != os.geteuid():
        raise _refusal(
            path,
            f"it belongs to user {found.st_uid}, the node runs as {os.geteuid()}; "
            f"`chown {os.geteuid()} {path}`",
        )
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise _refusal(path, f"others may use it (mode {mode:04o}); `chmod 600 {path}`")


def _public_key_of(path: Path, secret: bytes) -> bytes:
    try:
        return zmq.curve_public(secret)
    except (ValueError, zmq.ZMQError) as error:
        raise _refusal(
            path, "it holds no secret key, which is 40 characters; `synap keygen` makes one"
        ) from error


def _refusal(path: Path, why: str) -> ConfigInvalid:
    return ConfigInvalid([f"{_FIELD} = {path}: {why}"])
