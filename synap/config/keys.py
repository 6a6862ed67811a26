"""The keys of the configuration by section, with their types, limits and defaults.

Each key is declared here and nowhere else. A key's docstring is its description;
`docs/configuration.md` has the same list for operators. What is beside a type says what values it
takes, for `checks` alone, which finds what is wrong with given ones: a child of a node is handed
checked values, and starts without that.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import field

from synap.addresses import is_loopback, join_address, split_address
from synap.config.account_limits import MIN_PASSWORD_CHARACTERS
from synap.config.cpus import usable_cpus

_MIB = 1024 * 1024
# Half of what a frame's payload may hold, so that no value can be too large for the log.
_LARGEST_VALUE_BYTES = 128 * _MIB
_WAL_SEGMENTS = 16
_MIN_CLUSTER_SECRET_CHARACTERS = 32
# A default that `checks` makes of the key before: the address with the next port.
FOLLOWS = ""


class Within(msgspec.Struct, frozen=True):
    """What a number lies between, both included."""

    lowest: int
    highest: int


class Length(msgspec.Struct, frozen=True):
    """How many characters a text has at least and at most."""

    least: int
    most: int | None = None


class Form(msgspec.Struct, frozen=True):
    """How a text is checked, by the name that `checks` knows it by."""

    name: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """Says in words what a key takes, where its type does not."""

    words: str


class Secret:
    """A text that no representation shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('**********')"

    def get_secret_value(self) -> str:
        """Return what nobody is to see."""
        return self._value


Role = Literal["standalone", "master", "replica"]
Port = Annotated[int, Within(1, 65535)]
# A day: longer than any of these waits makes sense, and far below the timers' own limits.
Milliseconds = Annotated[int, Within(1, 86_400_000)]
# Of waits that may be shorter than a second.
Seconds = Annotated[float, Form("seconds"), Allowed("a number from 0.1 to 3600")]
Address = Annotated[str, Form("address"), Allowed("host:port")]
Addresses = Annotated[
    tuple[Annotated[str, Form("address")], ...],
    Form("list"),
    Allowed("a list of host:port, as 10.0.0.2:15501"),
]
Url = Annotated[str, Form("url"), Allowed("http://host:port")]
Origins = Annotated[
    tuple[Annotated[str, Form("origin")], ...],
    Form("list"),
    Allowed("a list of origins, as in https://app.example, or * for all"),
]
HostNames = Annotated[
    tuple[Annotated[str, Form("host")], ...],
    Form("list"),
    Allowed("a list of host names or addresses, without ports"),
]
PublicKey = Annotated[str, Form("public_key"), Allowed("a public key of 40 characters (Z85)")]
PublicKeys = Annotated[
    tuple[PublicKey, ...],
    Form("list"),
    Allowed("a list of public keys of 40 characters (Z85)"),
]
Proxies = Annotated[
    tuple[Annotated[str, Form("network_or_name")], ...],
    Form("list"),
    Allowed("a list of addresses, networks as in 10.0.0.0/8, or host names"),
]
# It is shown on other nodes too.
NodeId = Annotated[
    str, Length(1, 128), Form("printable"), Allowed("1 to 128 characters that can be printed")
]
UserName = Annotated[str, Form("user_name"), Allowed("1 to 64 letters, digits and . _ @ -")]
# Shown in no message and by no command.
Password = Annotated[Secret, Length(MIN_PASSWORD_CHARACTERS)]
# Whoever hears a handshake can try guesses at it without asking anybody, so it must be random.
ClusterSecret = Annotated[
    Secret,
    Length(_MIN_CLUSTER_SECRET_CHARACTERS),
    Allowed(
        f"text of at least {_MIN_CLUSTER_SECRET_CHARACTERS} characters, "
        "as `openssl rand -hex 32` makes it"
    ),
]
Level = Annotated[Literal["debug", "info", "warning", "error", "critical"], Form("lower_case")]
EvictionPolicy = Annotated[
    Literal[
        "noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-lfu",
        "allkeys-random", "volatile-random", "volatile-ttl",
    ],
    Form("policy"),
]  # fmt: skip


class Section(msgspec.Struct, frozen=True):
    """A group of keys; nothing can be changed, `msgspec.structs.replace` makes another."""


class Tls(Section, frozen=True):
    """The certificate that HTTP is served with; without one it is not encrypted."""

    cert_path: Path | None = None
    """The certificate, in PEM, with those that lead from it to the root; HUP reads it again."""
    key_path: Path | None = None
    """Its private key, in PEM, without a password."""
    client_ca_path: Path | None = None
    """Authorities in PEM; where given, a client without a certificate of theirs is turned away."""


class Server(Section, frozen=True):
    """The HTTP side of a node."""

    host: Annotated[str, Length(1)] = "127.0.0.1"
    """Address that HTTP listens on; 0.0.0.0 or :: is every address of the machine."""
    port: Port = 15500
    """Port that HTTP listens on."""
    workers: Annotated[int, Within(1, 512)] = field(default_factory=usable_cpus)
    """Gunicorn workers."""
    node_id: NodeId = field(default_factory=socket.gethostname)
    """Name of the node, shown on the master beside its offset and lag."""
    advertise_url: Url | None = None
    """What other nodes tell clients to reach this one, as http://host:port."""
    max_request_size_mb: Annotated[int, Within(1, 1024)] = 10
    """Largest request body in MiB."""
    write_timeout_ms: Milliseconds = 5000
    """How long a write waits for the writer."""
    export_timeout_secs: Annotated[int, Within(1, 86_400)] = 600
    """Longest time that one export may take; as long, the store keeps every page that it had."""
    transaction_timeout_secs: Annotated[int, Within(1, 86_400)] = 60
    """Silence after which a client's open transaction ends."""
    max_connections: Annotated[int, Within(1, 1_000_000)] = 1000
    """Open connections of one worker; beyond it those that wait for their clients make room."""
    max_connections_per_address: Annotated[int, Within(0, 1_000_000)] = 500
    """Those of one address, and half of all at most; 0, or a trusted proxy, is without limit."""
    worker_memory_mb: Annotated[int, Within(16, 1_048_576)] = 256
    """Memory in MiB that clients may have one worker hold: bodies, requests, answers under way."""
    request_timeout_secs: Annotated[int, Within(1, 86_400)] = 60
    """How long a request may take to come in whole."""
    idle_timeout_secs: Annotated[int, Within(1, 86_400)] = 75
    """How long a kept connection may be silent; longer than the load balancer keeps its own."""
    drain_delay_ms: Annotated[int, Within(0, 600_000)] = 1000
    """On SIGTERM: how long the node serves on while /readiness fails, before it drains."""
    cors_origins: Origins = ()
    """Origins that browsers may call from; none turns CORS off."""
    allowed_hosts: HostNames = ()
    """Names in `Host` that are served; on the loopback alone the machine's own always are."""
    trusted_proxies: Proxies = ()
    """Addresses of proxies whose X-Forwarded-For, -Proto and -Host are believed."""
    proxy_protocol: bool = False
    """Whether connections of trusted proxies may begin with the PROXY protocol's header (v2)."""
    unknown_fields: Literal["refuse", "ignore"] = "refuse"
    """What becomes of a request with a parameter or a field that nobody knows."""
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
        """The longest that an answer may take after its request: a write's wait, and a little."""
        return math.ceil(self.write_timeout_ms / 1000) + 2


class KvStore(Section, frozen=True):
    """The keys."""

    max_memory_mb: Annotated[int, Within(0, 16 * _MIB)] = 4096
    """Largest size of the store's used pages in MiB; 0 is without limit."""
    eviction_policy: EvictionPolicy = "noeviction"
    """What goes when the store is full; `noeviction` refuses writes instead."""
    ttl_cleanup_interval_ms: Milliseconds = 100
    """How often expired keys are removed from the disk; they are hidden at once."""
    max_value_size_bytes: Annotated[int, Within(1, _LARGEST_VALUE_BYTES)] = 8 * _MIB
    """Largest value in bytes."""
    writemap: Literal["auto", "on", "off"] = "auto"
    """Whether the store's pages are written through memory; `auto` on ext4 and tmpfs."""
    allow_flush_commands: bool = False
    """Whether the commands `kv.flushdb` and `kv.flushall` may remove every key."""


class Wal(Section, frozen=True):
    """The write-ahead log."""

    path: Path | None = None
    """Link to the active segment; <data_dir>/wal/synap.wal where it is not given."""
    fsync_mode: Literal["always", "periodic", "never"] = "periodic"
    """When written frames are forced to the disk."""
    fsync_interval_ms: Milliseconds = 1000
    """Time between two syncs in the mode `periodic`."""
    buffer_size_kb: Annotated[int, Within(4, 65536)] = 64
    """How much the writer collects from its clients into one frame."""
    max_size_mb: Annotated[int, Within(1, 16 * _MIB)] = 1024
    """Size from which segments go that two snapshots cover; a segment is a 16th of it."""
    compression: Literal["none", "zstd"] = "none"
    """Whether frames over 4 KiB are compressed: for slow links and long logs, at a price in CPU."""

    @property
    def segment_bytes(self) -> int:
        """Size at which a segment is finished: a 16th of `max_size_mb`, at least 1 MiB."""
        return max(_MIB, self.max_size_mb * _MIB // _WAL_SEGMENTS)


class Snapshot(Section, frozen=True):
    """Images of the store, from which a node recovers and which let the log be cut."""

    enabled: bool = True
    """Whether snapshots are taken by themselves; `POST /snapshot` takes one in any case."""
    directory: Path | None = None
    """Folder of the snapshots; <data_dir>/snapshots where it is not given."""
    interval_secs: Annotated[int, Within(1, 31_536_000)] = 300
    """Longest time between two snapshots while something changes."""
    operation_threshold: Annotated[int, Within(1, 10**15)] = 10_000
    """Changes after which a snapshot is due sooner."""
    min_interval_secs: Annotated[int, Within(1, 31_536_000)] = 30
    """Shortest time between two snapshots that are due by themselves."""
    max_snapshots: Annotated[int, Within(1, 10_000)] = 10
    """Snapshots that are kept; the older ones are removed."""
    compression: bool = False
    """Whether snapshots are compressed, by Zstandard."""


class Persistence(Section, frozen=True):
    """What is on the disk."""

    enabled: bool = True
    """Whether anything is kept; else log and store lie in a temporary folder, gone with it."""
    wal: Wal = Wal()
    snapshot: Snapshot = Snapshot()


class Curve(Section, frozen=True):
    """Membership by a key for each node, which can be revoked; `replication.secret` is simpler.

    Both channels are encrypted by CurveZMQ. A node may be master today and replica tomorrow, so
    each needs what both roles do: all nodes of a cluster have the same two lists, and each has a
    secret key of its own.
    """

    enabled: bool = False
    """Whether replication is encrypted; all nodes of a cluster or none."""
    secret_key_file: Path | None = None
    """File of this node's secret key, as `synap keygen` writes it; mode 0600 or 0400."""
    public_key: PublicKey | None = None
    """This node's public key; where it is given, it must belong to the secret one."""
    server_key: PublicKeys = ()
    """Public keys of the nodes that may be master; a replica follows no other."""
    allowed_keys: PublicKeys = ()
    """Public keys of the nodes that may replicate from this one when it is master."""


class Replication(Section, frozen=True):
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
    sync_listen_address: Address = FOLLOWS
    """Where a master serves catch-up (ROUTER); the port after the one above."""
    master_address: Address | None = None
    """The master's PUB socket as host:port; a replica needs it."""
    master_sync_address: Address | None = FOLLOWS
    """The master's ROUTER socket; the port after the one above."""
    upstream: Addresses = ()
    """PUB sockets of replicas to follow in place of the master, in order; the master comes last."""
    relay: bool = False
    """Whether this node, as a replica, serves replicas of its own, on the two addresses above."""
    heartbeat_interval_ms: Milliseconds = 1000
    """Time between two heartbeats; three missed ones mean that the link is down."""
    max_lag_ms: Milliseconds = 10_000
    """Lag from which a replica counts as lagging."""
    replica_timeout_secs: Annotated[int, Within(1, 86_400)] = 30
    """Silence after which the master counts a replica as disconnected."""
    restart_wait_secs: Annotated[int, Within(0, 86_400)] = 10
    """How long a master that may have lost its log's end waits for the replicas it knows."""
    auto_reconnect: bool = True
    """Whether a replica looks for its master again after the link went down."""
    reconnect_delay_ms: Milliseconds = 5000
    """Wait before the second try to reconnect; the first comes at once."""
    buffer_size_kb: Annotated[int, Within(4, 1_048_576)] = 256
    """Socket buffers, and the unit of the send queue's bound."""
    min_replicas_to_write: Annotated[int, Within(0, 256)] = 0
    """Replicas that hold a write in their WAL before it is answered; a request may ask for more."""
    ack_timeout_ms: Milliseconds = 1000
    """How long a write waits for these; below server.write_timeout_ms."""
    read_held: bool = False
    """Whether a master tells by a read only what min_replicas_to_write replicas hold."""
    read_wait_ms: Annotated[int, Within(0, 86_400_000)] = 1000
    """How long a read waits for X-Synap-Min-Position or X-Synap-Min-Offset."""
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


class Logging(Section, frozen=True):
    """What the node says on standard error."""

    level: Level = "info"
    """Least severe record that is written."""
    format: Literal["json", "pretty"] = "json"
    """One JSON object a line, or text for people."""
    access: bool = False
    """Whether each request gets a line, with its path, and so with its key."""
    slow_ms: Annotated[int, Within(0, 86_400_000)] = 100
    """Requests that take as long get a line and a place in `/slowlog`; 0 is for none."""


class RolePermission(Section, frozen=True):
    """What a role of the configuration allows."""

    resource: Annotated[str, Length(1, 1024)]
    """Pattern of resources: `kv:<key>`, `node:<work>`; `*` stands for any text."""
    action: Literal["read", "write", "delete", "admin", "all"]
    """What may be done with them."""


Roles = Annotated[
    dict[UserName, tuple[RolePermission, ...]],
    Allowed("roles, each a list of {resource: PATTERN, action: read, write, delete, admin or all}"),
]


class RootUser(Section, frozen=True):
    """The user who is always there and may do everything."""

    username: UserName = "root"
    """Name of the root user, who is not stored and can't be changed by HTTP."""
    password: Password | None = None
    """Password of the root user; needed where authentication is on."""


class Auth(Section, frozen=True):
    """Who may use the node. Users and keys themselves are data, and replicated."""

    enabled: bool = False
    """Whether requests need credentials; else every client may do everything."""
    require_auth: bool = True
    """Whether requests without credentials get 401, instead of 403 where they need a permission."""
    root: RootUser = RootUser()
    protect_metrics: bool = False
    """Whether `/metrics` needs credentials too."""
    roles: Roles = field(default_factory=dict)
    """Roles beside `admin`, `readwrite` and `readonly`."""


class Idempotency(Section, frozen=True):
    """What is remembered of requests with Idempotency-Key; the same on all nodes of a cluster."""

    ttl_secs: Annotated[int, Within(1, 86_400)] = 3600
    """How long a request with Idempotency-Key is remembered; one that comes later runs as new."""
    max_entries: Annotated[int, Within(1, 100_000_000)] = 1_000_000
    """Requests that are remembered at once; beyond it those with a key get 507."""
    max_bytes: Annotated[int, Within(4096, 2**40)] = 256 * _MIB
    """Bytes that what is remembered of them may take up, their answers too."""


class RateLimit(Section, frozen=True):
    """How many requests one client may send."""

    enabled: bool = False
    """Whether clients that ask too often get 429."""
    requests_per_second: Annotated[int, Within(1, 1_000_000)] = 1000
    """Requests that a client may send a second in the long run, over all workers of the node."""
    burst_size: Annotated[int, Within(1, 1_000_000)] = 2000
    """Requests that it may send at once after a rest."""


class FailoverTls(Section, frozen=True):
    """How the engine's endpoints are reached by https."""

    ca_path: Path | None = None
    """Authorities of the endpoints, in PEM; the system's where it is not given."""
    cert_path: Path | None = None
    """This node's certificate for them, in PEM, where they want one."""
    key_path: Path | None = None
    """Its private key, in PEM, without a password."""


class Failover(Section, frozen=True):
    """The agent that replaces a lost master by itself, by an engine of elections."""

    engine: Literal["none", "etcd", "kubernetes"] = "none"
    """Where the cluster's master is agreed on; `none` leaves it to the operator."""
    endpoints: Annotated[
        tuple[Annotated[str, Form("url")], ...],
        Form("list"),
        Allowed("a list of URLs, as in http://10.0.0.1:2379"),
    ] = ()
    """The engine's client URLs, tried in their order; of Kubernetes one, or the pod's own."""
    cluster: Annotated[str, Form("user_name"), Allowed("1 to 64 letters, digits and . _ @ -")] = (
        "synap"
    )
    """Name of this cluster at the engine, the same on all of its nodes."""
    ttl_secs: Annotated[int, Within(2, 3600)] = 10
    """How long the master's lease lasts unless it is renewed."""
    loop_secs: Seconds = 2.0
    """Time between two renewals."""
    retry_secs: Seconds = 2.5
    """How long one call to the engine may take."""
    max_lag_entries: Annotated[int, Within(0, 10**15)] = 1000
    """With no quorum: a replica that lacks more entries takes no lost master's place."""
    tags: Annotated[
        tuple[Annotated[str, Form("tag")], ...],
        Form("list"),
        Allowed("a list of nofailover and priority=NUMBER"),
    ] = ()
    """`nofailover`: never master, and no vote; `priority=N`: of equal nodes the higher leads."""
    user: Annotated[str, Length(1)] | None = None
    """The engine's user, where it wants one."""
    password: Annotated[Secret, Length(1), Allowed("text that is not empty")] | None = None
    """That user's password."""
    namespace: Annotated[str, Length(1)] | None = None
    """Where in Kubernetes the Leases are; the pod's own where it is not given."""
    token_path: Path | None = None
    """File with the token for Kubernetes; the pod's own where it is not given."""
    tls: FailoverTls = FailoverTls()


class Verify(Section, frozen=True):
    """The look at every record of the store, for what a disk or the memory has changed."""

    every_hours: Annotated[int, Within(0, 8760)] = 24
    """Hours between two looks at everything; 0 is for none."""


class Watch(Section, frozen=True):
    """The change feed, `GET /watch`."""

    max_watchers: Annotated[int, Within(0, 1_000_000)] = 10_000
    """Watchers of the node; they take no place of `server.max_connections`."""
    buffer_mb: Annotated[int, Within(1, 16_384)] = 8
    """Newest changes in MiB that each worker keeps at hand for its watchers."""
    max_inline_kb: Annotated[int, Within(0, 131_072)] = 64
    """Largest value in KiB that events tell; of a longer one they say that it has changed."""
    stalled_timeout_secs: Annotated[int, Within(1, 3600)] = 30
    """Seconds after which a watcher that takes nothing of what waits for it is cut off."""


class Telemetry(Section, frozen=True):
    """Spans of requests, for a collector of OpenTelemetry; needs `synap[otel]`."""

    endpoint: Url | None = None
    """The collector's OTLP over HTTP, as http://host:4318; none makes no spans."""
    sample_ratio: Annotated[float, Form("ratio"), Allowed("a number from 0 to 1")] = 0.0
    """Part of the requests without a trace that begin one; those with one go by its own flag."""


class Sharding(Section, frozen=True):
    """Several clusters that have the keys between them, by fixed slots."""

    cluster: Annotated[str, Form("user_name"), Allowed("1 to 64 letters, digits and . _ @ -")] = (
        "synap"
    )
    """Name of this node's cluster among the others."""
    slots: Annotated[
        tuple[Annotated[str, Form("slots")], ...],
        Form("list"),
        Allowed("a list of slots, cluster and URL, as in 0-340 a http://a:15500"),
    ] = ()
    """Which cluster has which of the 1024 slots, all of them, the same on every node."""


class Console(Section, frozen=True):
    """The page for browsers, `GET /console`."""

    enabled: bool = True
    """Serve the page. What it asks the node for is the API, with the permissions of the API."""
    write: bool = False
    """Show what changes something: editing and deleting keys, and the operator's actions."""


def _shown(value: object) -> str:
    return "**********" if isinstance(value, Secret) else str(value)


class Config(Section, frozen=True):
    """A node's whole configuration; `load_config` makes it."""

    server: Server = Server()
    data_dir: Path = Path("data")
    """Where the node keeps everything."""
    kv_store: KvStore = KvStore()
    persistence: Persistence = Persistence()
    verify: Verify = Verify()
    replication: Replication = Replication()
    auth: Auth = Auth()
    rate_limit: RateLimit = RateLimit()
    idempotency: Idempotency = Idempotency()
    watch: Watch = Watch()
    sharding: Sharding = Sharding()
    console: Console = Console()
    failover: Failover = Failover()
    logging: Logging = Logging()
    telemetry: Telemetry = Telemetry()

    def shown(self) -> dict[str, Any]:
        """Return the values in effect as plain values, secrets masked."""
        values: dict[str, Any] = msgspec.to_builtins(self, enc_hook=_shown)
        values["persistence"]["wal"]["path"] = str(self.wal_path)
        values["persistence"]["snapshot"]["directory"] = str(self.snapshots_dir)
        return values

    @property
    def wal_path(self) -> Path:
        """The link to the active segment, also where `persistence.wal.path` is not given."""
        return self.persistence.wal.path or self.data_dir / "wal" / "synap.wal"

    @property
    def snapshots_dir(self) -> Path:
        """The snapshots' folder, also where `persistence.snapshot.directory` is not given."""
        return self.persistence.snapshot.directory or self.data_dir / "snapshots"
