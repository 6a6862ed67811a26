"""The keys of the configuration by section, with their types, limits and defaults.

A key's docstring is its description; `docs/configuration.md` has the same list for operators.
`synap/config/loading.py` joins the sections and reads the values; nothing else imports this module
but for a type.
"""

from __future__ import annotations

import math
import os
import re
import socket
from dataclasses import dataclass
from functools import reduce
from ipaddress import ip_network
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Annotated, Any, Literal, LiteralString

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from synap.addresses import URL_PATTERN, following_port, is_loopback, join_address, split_address
from synap.config.account_limits import MIN_PASSWORD_CHARACTERS, NAME_PATTERN, OWN_ROLES

_MIB = 1024 * 1024
# Half of what a frame's payload may hold, so that no value can be too large for the log.
_LARGEST_VALUE_BYTES = 128 * _MIB
_WAL_SEGMENTS = 16
# A key of 32 bytes in ZeroMQ's text form, which has neither quotes nor commas.
_Z85_KEY_CHARACTERS = 40
_Z85_ALPHABET = digits + ascii_lowercase + ascii_uppercase + ".-:+=^!/*?&<>()[]{}@%$#"
# As browsers send an origin, or `*` for all of them.
_ORIGIN_PATTERN = r"^(\*|[A-Za-z][A-Za-z0-9+.-]*://[^\s/,]+)$"
_HOST_NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HOST_PATTERN = r"^[A-Za-z0-9_.:-]+$"
_MIN_CLUSTER_SECRET_CHARACTERS = 32
# Type of the errors whose message is made here and shown as it is.
CONTRADICTION = "contradiction"

Role = Literal["standalone", "master", "replica"]
Port = Annotated[int, Field(ge=1, le=65535)]
# A day: longer than any of these waits makes sense, and far below the timers' own limits.
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]


def _checked_address(address: str) -> str:
    split_address(address)
    return address


def _optional_following_port(address: str | None) -> str | None:
    return None if address is None else following_port(address)


def _network_or_name(text: str) -> str:
    """Return a network in its usual form, a host's name as it is; refuse all else."""
    try:
        return str(ip_network(text))
    except ValueError:
        # Digits and points alone were meant to be an address.
        if re.fullmatch(_HOST_NAME_PATTERN, text) and not text.replace(".", "").isdigit():
            return text
        raise


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _checked_key(key: str) -> str:
    """Refuse what is no Z85 text of 32 bytes: five characters stand for a number of four."""
    values = [_Z85_ALPHABET.index(character) for character in key]
    groups = [values[at : at + 5] for at in range(0, len(values), 5)]
    numbers = [reduce(lambda number, digit: number * 85 + digit, group, 0) for group in groups]
    if len(key) != _Z85_KEY_CHARACTERS or max(numbers) >= 2**32:
        raise ValueError("no public key")
    return key


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it can't be printed")
    return text


def _cpu_count() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Allowed:
    """Says in words what a key takes, where its type does not."""

    words: str


Address = Annotated[str, AfterValidator(_checked_address), Allowed("host:port")]
Url = Annotated[str, StringConstraints(pattern=URL_PATTERN), Allowed("http://host:port")]
Origins = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=_ORIGIN_PATTERN, to_lower=True)], ...],
    NoDecode,
    BeforeValidator(_split_commas),
    Allowed("a list of origins, as in https://app.example, or * for all"),
]
HostNames = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=_HOST_PATTERN, to_lower=True)], ...],
    NoDecode,
    BeforeValidator(_split_commas),
    Allowed("a list of host names or addresses, without ports"),
]
PublicKey = Annotated[
    str, AfterValidator(_checked_key), Allowed("a public key of 40 characters (Z85)")
]
PublicKeys = Annotated[
    tuple[PublicKey, ...],
    NoDecode,
    BeforeValidator(_split_commas),
    Allowed("a list of public keys of 40 characters (Z85)"),
]
Proxies = Annotated[
    tuple[Annotated[str, AfterValidator(_network_or_name)], ...],
    NoDecode,
    BeforeValidator(_split_commas),
    Allowed("a list of addresses, networks as in 10.0.0.0/8, or host names"),
]
# It is shown on other nodes too.
NodeId = Annotated[
    str,
    Field(min_length=1, max_length=128),
    AfterValidator(_printable),
    Allowed("1 to 128 characters that can be printed"),
]
UserName = Annotated[
    str,
    StringConstraints(pattern=NAME_PATTERN),
    Allowed("1 to 64 letters, digits and . _ @ -"),
]
# Shown in no message and by no command; see `secrets` in synap.config.
Secret = Annotated[SecretStr, Field(min_length=MIN_PASSWORD_CHARACTERS)]
# Whoever hears a handshake can try guesses at it without asking anybody, so it must be random.
ClusterSecret = Annotated[
    SecretStr,
    Field(min_length=_MIN_CLUSTER_SECRET_CHARACTERS),
    Allowed(
        f"text of at least {_MIN_CLUSTER_SECRET_CHARACTERS} characters, "
        "as `openssl rand -hex 32` makes it"
    ),
]
Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]

# The short names that other versions of Synap gave to the policies.
_POLICY_ALIASES = {
    "none": "noeviction",
    "lru": "allkeys-lru",
    "lfu": "allkeys-lfu",
    "ttl": "volatile-ttl",
}


def _policy_of_alias(value: object) -> object:
    return _POLICY_ALIASES.get(value, value) if isinstance(value, str) else value


EvictionPolicy = Annotated[
    Literal[
        "noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-lfu",
        "allkeys-random", "volatile-random", "volatile-ttl",
    ],
    BeforeValidator(_policy_of_alias),
]  # fmt: skip


class Section(BaseModel):
    """A group of keys; unknown ones are faults, and nothing can be changed later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, coerce_numbers_to_str=True
    )


class Tls(Section):
    """The certificate that HTTP is served with; without one it is not encrypted."""

    cert_path: Path | None = None
    """The certificate, in PEM, with those that lead from it to the root; HUP reads it again."""
    key_path: Path | None = Field(None, validate_default=True)
    """Its private key, in PEM, without a password."""
    client_ca_path: Path | None = None
    """Authorities in PEM; where given, a client without a certificate of theirs is turned away."""

    @field_validator("key_path", "client_ca_path")
    @classmethod
    def _goes_with_the_certificate(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        has_certificate = info.data.get("cert_path") is not None
        if path is None and has_certificate:
            raise PydanticCustomError(CONTRADICTION, "server.tls.cert_path needs its private key")
        if path is not None and not has_certificate:
            raise PydanticCustomError(CONTRADICTION, "it needs server.tls.cert_path beside it")
        return path


class Server(Section):
    """The HTTP side of a node."""

    host: str = Field("0.0.0.0", min_length=1)
    """Address that HTTP listens on."""
    port: Port = 15500
    """Port that HTTP listens on."""
    workers: int = Field(default_factory=_cpu_count, ge=1, le=512)
    """Gunicorn workers."""
    node_id: NodeId = Field(default_factory=socket.gethostname)
    """Name of the node, shown on the master beside its offset and lag."""
    advertise_url: Url | None = None
    """What other nodes tell clients to reach this one, as http://host:port."""
    max_request_size_mb: int = Field(10, ge=1, le=1024)
    """Largest request body in MiB."""
    write_timeout_ms: Milliseconds = 5000
    """How long a write waits for the writer."""
    transaction_timeout_secs: int = Field(60, ge=1, le=86_400)
    """Silence after which a client's open transaction ends."""
    max_connections: int = Field(1000, ge=1, le=1_000_000)
    """Open connections of one worker; beyond it those that wait for their clients make room."""
    max_connections_per_address: int = Field(500, ge=0, le=1_000_000)
    """Those of one address, and half of all at most; 0, or a trusted proxy, is without limit."""
    worker_memory_mb: int = Field(256, ge=16, le=1_048_576)
    """Memory in MiB that clients may have one worker hold: bodies, requests, answers under way."""
    request_timeout_secs: int = Field(60, ge=1, le=86_400)
    """How long a request may take to come in whole."""
    idle_timeout_secs: int = Field(75, ge=1, le=86_400)
    """How long a kept connection may be silent; longer than the load balancer keeps its own."""
    drain_delay_ms: int = Field(1000, ge=0, le=600_000)
    """On SIGTERM: how long the node serves on while /readiness fails, before it drains."""
    cors_origins: Origins = ()
    """Origins that browsers may call from; none turns CORS off."""
    allowed_hosts: HostNames = ()
    """Names in `Host` that are served; on the loopback alone the machine's own always are."""
    trusted_proxies: Proxies = ()
    """Addresses of proxies whose X-Forwarded-For, -Proto and -Host are believed."""
    tls: Tls = Tls()

    @property
    def held_bytes(self) -> int:
        """What a worker holds of bodies, requests and answers; the rest is for making them."""
        return self.worker_memory_mb * 2**20 * 3 // 8

    @property
    def max_answer_bytes(self) -> int:
        """The most that one answer may hold of values, but for the largest value, which fits."""
        return self.worker_memory_mb * 2**20 // 8

    @property
    def own_url(self) -> str:
        """What this node calls itself; its host may be a wildcard, which only others can mend."""
        return self.advertise_url or self.listen_url

    @property
    def listen_url(self) -> str:
        """Where it listens, as https:// with TLS."""
        scheme = "http" if self.tls.cert_path is None else "https"
        return f"{scheme}://{join_address(self.host, self.port)}"

    @property
    def answer_seconds(self) -> int:
        """The longest that an answer may take behind its request: a write's wait, and a little."""
        return math.ceil(self.write_timeout_ms / 1000) + 2


class KvStore(Section):
    """The keys."""

    max_memory_mb: int = Field(4096, ge=0, le=16 * _MIB)
    """Largest size of the store's used pages in MiB; 0 is without limit."""
    eviction_policy: EvictionPolicy = "noeviction"
    """What goes when the store is full; `noeviction` refuses writes instead."""
    ttl_cleanup_interval_ms: Milliseconds = 100
    """How often expired keys are removed from the disk; they are hidden at once."""
    max_value_size_bytes: int = Field(8 * _MIB, ge=1, le=_LARGEST_VALUE_BYTES)
    """Largest value in bytes."""
    allow_flush_commands: bool = False
    """Whether the commands `kv.flushdb` and `kv.flushall` may remove every key."""


class Wal(Section):
    """The write-ahead log."""

    path: Path | None = None
    """Link to the active segment; <data_dir>/wal/synap.wal where it is not given."""
    fsync_mode: Literal["always", "periodic", "never"] = "periodic"
    """When written frames are forced to the disk."""
    fsync_interval_ms: Milliseconds = 1000
    """Time between two syncs in the mode `periodic`."""
    buffer_size_kb: int = Field(64, ge=4, le=65536)
    """How much the writer collects from its clients into one frame."""
    max_size_mb: int = Field(1024, ge=1, le=16 * _MIB)
    """Size from which segments go that two snapshots cover; a segment is a 16th of it."""
    compression: Literal["none", "zstd"] = "none"
    """Whether frames over 4 KiB are compressed: for slow links and long logs, at a price in CPU."""

    @property
    def segment_bytes(self) -> int:
        """Size at which a segment is finished: a 16th of `max_size_mb`, at least 1 MiB."""
        return max(_MIB, self.max_size_mb * _MIB // _WAL_SEGMENTS)


class Snapshot(Section):
    """Images of the store, from which a node recovers and which let the log be cut."""

    enabled: bool = True
    """Whether snapshots are taken by themselves; `POST /snapshot` takes one in any case."""
    directory: Path | None = None
    """Folder of the snapshots; <data_dir>/snapshots where it is not given."""
    interval_secs: int = Field(300, ge=1, le=31_536_000)
    """Longest time between two snapshots while something changes."""
    operation_threshold: int = Field(10_000, ge=1, le=10**15)
    """Changes after which a snapshot is due sooner."""
    min_interval_secs: int = Field(30, ge=1, le=31_536_000)
    """Shortest time between two snapshots that are due by themselves."""
    max_snapshots: int = Field(10, ge=1, le=10_000)
    """Snapshots that are kept; the older ones are removed."""
    compression: bool = False
    """Whether snapshots are compressed, by Zstandard."""


class Persistence(Section):
    """What is on the disk."""

    enabled: bool = True
    """Whether anything is kept; else log and store lie in a temporary folder, gone with it."""
    wal: Wal = Wal()
    snapshot: Snapshot = Snapshot()

    @model_validator(mode="after")
    def _keeps_no_named_files(self) -> Persistence:
        if not self.enabled and (self.wal.path or self.snapshot.directory):
            raise PydanticCustomError(
                CONTRADICTION, "wal.path and snapshot.directory name files that would be kept"
            )
        return self


class Curve(Section):
    """Membership by a key for each node, which can be revoked; `replication.secret` is simpler.

    Both channels are encrypted by CurveZMQ. A node may be master today and replica tomorrow, so
    each needs what both roles do: all nodes of a cluster have the same two lists, and each has a
    secret key of its own.
    """

    enabled: bool = False
    """Whether replication is encrypted; all nodes of a cluster or none."""
    secret_key_file: Path | None = Field(None, validate_default=True)
    """File of this node's secret key, as `synap keygen` writes it; mode 0600 or 0400."""
    public_key: PublicKey | None = None
    """This node's public key; where it is given, it must belong to the secret one."""
    server_key: PublicKeys = Field((), validate_default=True)
    """Public keys of the nodes that may be master; a replica follows no other."""
    allowed_keys: PublicKeys = Field((), validate_default=True)
    """Public keys of the nodes that may replicate from this one when it is master."""

    @field_validator("secret_key_file", "server_key", "allowed_keys")
    @classmethod
    def _given_where_enabled(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("enabled") and not value:
            assert info.field_name is not None
            raise PydanticCustomError(CONTRADICTION, _CURVE_NEEDS[info.field_name])
        return value


# What to do where replication.curve.enabled is true and the key is not set.
_CURVE_NEEDS: dict[str, LiteralString] = {
    "secret_key_file": "encryption needs this node's secret key; `synap keygen` makes one",
    "server_key": "encryption needs the public keys of the nodes that may be master, "
    "to know the master by",
    "allowed_keys": "encryption needs the public keys of the nodes that may replicate; "
    "without one a master would refuse everyone",
}


class Replication(Section):
    """Master and replicas.

    A role of `master` or `replica` turns replication on by itself; with `enabled: false` beside it
    the two contradict each other, which is a fault. `enabled: true` alone leaves a standalone node.
    """

    enabled: bool = False
    """On for every master and replica; the role alone says so."""
    role: Role = "standalone"
    """Role that a new data directory begins with; the one kept in it wins from then on."""
    replica_listen_address: Address = "127.0.0.1:15501"
    """Where a master publishes its frames (PUB); only this machine reaches the default."""
    sync_listen_address: Address = Field(
        default_factory=lambda fields: following_port(fields["replica_listen_address"])
    )
    """Where a master serves catch-up (ROUTER); the port after the one above."""
    master_address: Address | None = Field(None, validate_default=True)
    """The master's PUB socket as host:port; a replica needs it."""
    master_sync_address: Address | None = Field(
        default_factory=lambda fields: _optional_following_port(fields["master_address"])
    )
    """The master's ROUTER socket; the port after the one above."""
    heartbeat_interval_ms: Milliseconds = 1000
    """Time between two heartbeats; three missed ones mean that the link is down."""
    max_lag_ms: Milliseconds = 10_000
    """Lag from which a replica counts as lagging."""
    replica_timeout_secs: int = Field(30, ge=1, le=86_400)
    """Silence after which the master counts a replica as disconnected."""
    auto_reconnect: bool = True
    """Whether a replica looks for its master again after the link went down."""
    reconnect_delay_ms: Milliseconds = 5000
    """Wait before the second try to reconnect; the first comes at once."""
    buffer_size_kb: int = Field(256, ge=4, le=1_048_576)
    """Socket buffers, and the unit of the send queue's bound."""
    min_replicas_to_write: int = Field(0, ge=0, le=256)
    """Replicas that hold a write in their WAL before it is answered; a request may ask for more."""
    ack_timeout_ms: Milliseconds = 1000
    """How long a write waits for these; below server.write_timeout_ms."""
    read_wait_ms: int = Field(1000, ge=0, le=86_400_000)
    """How long a read waits for the offset in X-Synap-Min-Offset."""
    secret: ClusterSecret | None = None
    """What all nodes of a cluster share: who knows it is a member, and all else is turned away."""
    curve: Curve = Curve()

    @property
    def proves_membership(self) -> bool:
        """Whether peers must prove that they are members; then both channels are encrypted."""
        return self.secret is not None or self.curve.enabled

    @property
    def is_open(self) -> bool:
        """Whether a master would serve any other machine that reaches its ports."""
        addresses = (self.replica_listen_address, self.sync_listen_address)
        hosts = (split_address(address)[0] for address in addresses)
        return not self.proves_membership and not all(map(is_loopback, hosts))

    @model_validator(mode="before")
    @classmethod
    def _enabled_by_role(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("role") in ("master", "replica"):
            return {"enabled": True, **given}
        return given

    @field_validator("role")
    @classmethod
    def _agrees_with_enabled(cls, role: Role, info: ValidationInfo) -> Role:
        if role != "standalone" and info.data.get("enabled") is False:
            raise PydanticCustomError(
                CONTRADICTION, "replication.enabled is false; remove it or set it to true"
            )
        return role

    @field_validator("master_address")
    @classmethod
    def _given_for_a_replica(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is None and info.data.get("role") == "replica":
            raise PydanticCustomError(
                CONTRADICTION,
                "a replica needs its master's PUB socket as host:port, as in 127.0.0.1:15501",
            )
        return address


class Logging(Section):
    """What the node says on standard error."""

    level: Level = "info"
    """Least severe record that is written."""
    format: Literal["json", "pretty"] = "json"
    """One JSON object a line, or text for people."""
    access: bool = False
    """Whether each request gets a line, with its path, and so with its key."""
    slow_ms: int = Field(100, ge=0, le=86_400_000)
    """Requests that take as long get a line and a place in `/slowlog`; 0 is for none."""


class RolePermission(Section):
    """What a role of the configuration allows."""

    resource: str = Field(min_length=1, max_length=1024)
    """Pattern of resources: `kv:<key>`, `node:<work>`; `*` stands for any text."""
    action: Literal["read", "write", "delete", "admin", "all"]
    """What may be done with them."""


Roles = Annotated[
    dict[UserName, tuple[RolePermission, ...]],
    Allowed("roles, each a list of {resource: PATTERN, action: read, write, delete, admin or all}"),
]


class RootUser(Section):
    """The user who is always there and may do everything."""

    username: UserName = "root"
    """Name of the root user, who is not stored and can't be changed by HTTP."""
    password: Secret | None = None
    """Password of the root user; needed where authentication is on."""


class Auth(Section):
    """Who may use the node. Users and keys themselves are data, and replicated."""

    enabled: bool = False
    """Whether requests need credentials; else every client may do everything."""
    require_auth: bool = True
    """Whether requests without credentials get 401, instead of 403 where they need a permission."""
    root: RootUser = RootUser()
    protect_metrics: bool = False
    """Whether `/metrics` needs credentials too."""
    roles: Roles = Field(default_factory=dict)
    """Roles beside `admin`, `readwrite` and `readonly`."""

    @field_validator("roles")
    @classmethod
    def _keeps_own_roles(cls, roles: dict[str, Any]) -> dict[str, Any]:
        for name in OWN_ROLES:
            if name in roles:
                raise PydanticCustomError(
                    CONTRADICTION, f"the role {name} is Synap's own; choose another name"
                )
        return roles


class RateLimit(Section):
    """How many requests one client may send."""

    enabled: bool = False
    """Whether clients that ask too often get 429."""
    requests_per_second: int = Field(1000, ge=1, le=1_000_000)
    """Requests that a client may send a second in the long run, over all workers of the node."""
    burst_size: int = Field(2000, ge=1, le=1_000_000)
    """Requests that it may send at once after a rest."""
