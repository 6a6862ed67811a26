"""The messages between master and replica, and their bytes.

A message has one or two parts. The first one:

    at  size  field
     0     4  magic "SYNR"
     4     1  protocol version, 1
     5        MessagePack array: the kind's number, then its fields in the order given here

The second part is bulk: encoded frames as they are in the log for `Published` and `Chunk`, bytes of
a snapshot's image for `SnapshotChunk`. No other message has one. Kinds 1 to 31 go from replica to
master, 33 to 63 from master to replica, 65 to 95 in the stream. Fields that a later program appends
are skipped. Sizes are checked before anything is decoded; what is no message raises
`ProtocolViolation`.

Source: docs/protocol.md, "Messages".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar
from zlib import crc32

import msgspec
from msgspec import Meta

from synap.errors import FrameCorrupt, FrameTruncated, ProtocolViolation
from synap.frame import FIRST_VERSION, HEADER_BYTES, MAX_PAYLOAD_BYTES, Frame, decode_frame
from synap.position import HISTORY_BYTES, START, Lineage, Position
from synap.replication.rules.peer_words import check_address, check_name, check_url, printable

MAGIC = b"SYNR"
PROTOCOL_VERSION = 1
_PREFIX = MAGIC + bytes([PROTOCOL_VERSION])

# A lineage has one reign for each promotion and takes about 30 bytes of a message for each.
MAX_REIGNS = 1000
# First part: a whole lineage and some room. Nothing a replica sends is larger.
MAX_HEAD_BYTES = 64 * 1024
# Second part: one chunk, which is larger than a chunk's usual size where it is one large frame.
MAX_BULK_BYTES = MAX_PAYLOAD_BYTES + HEADER_BYTES
# Bytes of a snapshot in one chunk at most; the master sends a part of it.
MAX_SNAPSHOT_CHUNK_BYTES = 8 * 1024 * 1024
SHA256_BYTES = 32
# Chunks that a master lets a replica have in flight, whatever credit it gives.
MAX_CREDIT = 16

# Bytes of the log in one Loan: it is a head, which is bounded.
MAX_PIECE_BYTES = 48 * 1024

_MAX_OFFSET = 2**63 - 1
# An hour between two heartbeats is beyond any use, and keeps a lying master from muting a replica.
_MAX_INTERVAL_MS = 3_600_000
# Of a master that are told of each other.
MAX_PEERS = 64
# Relays between a master and the last replica.
MAX_HOPS = 16

Offset = Annotated[int, Meta(ge=0, le=_MAX_OFFSET)]
Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=_MAX_OFFSET)]
IntervalMs = Annotated[int, Meta(ge=1, le=_MAX_INTERVAL_MS)]
History = Annotated[bytes, Meta(min_length=HISTORY_BYTES, max_length=HISTORY_BYTES)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=2048)]
WaitMs = Annotated[int, Meta(ge=0, le=_MAX_INTERVAL_MS)]
Checksum = Annotated[bytes, Meta(max_length=SHA256_BYTES)]

# Words of `Refusal.reason`.
NEEDS_FULL_RESYNC = "needs_full_resync"
DIVERGED = "diverged"
HELLO_WANTED = "hello_wanted"
BUSY = "busy"
WAIT = "wait"
NEEDS_UPGRADE = "needs_upgrade"
# A replica's own, never sent.
SEALED = "sealed"
# Records of one Digest: so long the master's loop makes one.
MAX_DIGEST_RECORDS = 1000
# Words of `standing` in what is said of a record.
THERE = "there"
ABSENT = "absent"
DAMAGED = "damaged"


class AboutMaster(msgspec.Struct, frozen=True, array_like=True):
    """What a master tells people of itself; no node decides anything by it.

    Attributes:
        version: Of its program; empty where it does not say.
        snapshot_ms: Its wall clock when its newest snapshot was taken; 0 for none.
        read_only: Why it takes or acknowledges no writes; empty where it does.
        lease_ms: How long its lease still lasts; None where that has no end.
    """

    version: Word = ""
    snapshot_ms: Milliseconds = 0
    read_only: Word = ""
    lease_ms: Milliseconds | None = None

    def __post_init__(self) -> None:
        check_name(self.version)
        check_name(self.read_only)


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A replica names itself and says where its log stands.

    Attributes:
        replica: Its `server.node_id`.
        position: The end of its log.
        lineage: The reigns of its log; empty where it holds nothing.
        url: Where clients reach it; may be empty.
        is_master: It is a master that was promoted and tells the one before it so; it follows
            nobody.
        sync_address: Where its ROUTER socket would be if it were a master; may be empty.
        format: The newest version of frames that it reads; programs before the second say none.
        lends: It answers Recall.
        mends: It answers RecallRecord.
        votes: Its acks may count for a quorum; not where it is configured to follow a relay.
        version: Of its program, for people; empty where it does not say.
    """

    replica: Name
    position: Position
    lineage: Lineage = ()
    url: Text = ""
    is_master: bool = False
    sync_address: Text = ""
    format: int = FIRST_VERSION
    lends: bool = False
    mends: bool = False
    votes: bool = True
    version: Word = ""

    def __post_init__(self) -> None:
        check_name(self.replica)
        check_name(self.version)
        check_url(self.url)
        check_address(self.sync_address)
        _check_position(self.position)
        _check_lineage(self.lineage)


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A replica asks for the frames after `after_offset`.

    Attributes:
        request: Number that the chunks repeat; higher than in the replica's fetches before.
        after_offset: Last offset that the replica holds.
        until_offset: The transfer may end when this offset is sent.
        credit: Chunks that the master may send before it hears more.
    """

    request: Number
    after_offset: Offset
    until_offset: Offset
    credit: Number


class Credit(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A replica has put chunks of transfer `request` into its log and takes as many more."""

    request: Number
    chunks: Number


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A replica's WAL holds every entry up to `offset`, synced as its own `fsync_mode` says.

    Attributes:
        offset: Last offset in its WAL and live store.
        epoch: Epoch of the entry there; 0 before the first.
        state: How its link stands, in the words of `progress.LinkState`.
        snapshot_ms: The replica's wall clock when its newest snapshot was taken, for people; 0 for
            none.
    """

    offset: Offset
    epoch: Offset
    state: Word
    snapshot_ms: Milliseconds = 0


class FetchSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A replica asks for a snapshot, or for the rest of one.

    Attributes:
        request: Number that offer and chunks repeat; higher than in all fetches before.
        sha256: Of the snapshot that the replica holds a beginning of; empty for none.
        after_byte: How much of that it holds.
        credit: Chunks that the master may send before it hears more; `Credit` gives more.
        at_least: Last offset of what the replica holds of the master's log; an older snapshot would
            take its readers back behind that.
    """

    request: Number
    sha256: Checksum
    after_byte: Offset
    credit: Number
    at_least: Offset = 0


class Inquiry(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A master that starts asks a node that used to follow it which reign that one is in.

    Attributes:
        master: Its `server.node_id`.
    """

    master: Name

    def __post_init__(self) -> None:
        check_name(self.master)


class Loan(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """A replica lends its master what that has lost: a piece of whole frames of the log.

    Attributes:
        request: The recall that it answers.
        at_byte: Place of the piece in the frames' bytes.
        size: How many bytes the frames have; 0 where the replica has none to lend.
        piece: The bytes from there on.
    """

    request: Number
    at_byte: Number
    size: Annotated[int, Meta(ge=0, le=MAX_BULK_BYTES)]
    piece: Annotated[bytes, Meta(max_length=MAX_PIECE_BYTES)] = b""


class FetchRecord(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A replica whose record is damaged asks its master for it.

    Attributes:
        request: Number that the answer repeats.
        space: Of the log.
        key: The record's.
        at_byte: The first byte that is wanted of the record as it is stored.
        is_doubted: The replica holds another one at the same offset, and its log says so too.
    """

    request: Number
    space: Annotated[int, Meta(ge=0, le=2)]
    key: Annotated[bytes, Meta(min_length=1, max_length=511)]
    at_byte: Number = 0
    is_doubted: bool = False


class RecordLoan(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A replica gives its master what it has of a record.

    Attributes:
        request: What it answers.
        offset: Last offset that the sender had applied when it looked.
        standing: THERE, ABSENT or DAMAGED; an unknown word is like the last.
        at_byte: Place of the piece in the record.
        size: How many bytes the record has as it is stored; 0 where there is none to give.
        piece: The bytes from there on.
    """

    request: Number
    offset: Offset
    standing: Word
    at_byte: Number
    size: Annotated[int, Meta(ge=0, le=MAX_BULK_BYTES)]
    piece: Annotated[bytes, Meta(max_length=MAX_PIECE_BYTES)] = b""


class FetchDigest(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A replica asks for a sum over a range of its master's records.

    Attributes:
        request: Number that the answer repeats.
        space: Of the log.
        after: Only keys after this one.
        until: Only keys up to this one; empty for all.
        limit: At most so many records.
    """

    request: Number
    space: Annotated[int, Meta(ge=0, le=2)]
    after: Annotated[bytes, Meta(max_length=511)]
    until: Annotated[bytes, Meta(max_length=511)]
    limit: Annotated[int, Meta(ge=1, le=MAX_DIGEST_RECORDS)]


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """The replica's log is a beginning of the master's, which still holds what follows it.

    Attributes:
        master: The master's `server.node_id`.
        position: The end of the master's log.
        lineage: The reigns of the master's log, oldest first.
        url: Where clients reach the master; may be empty.
        peers: Addresses of the ROUTER sockets that its replicas would have as masters.
        mends: It answers FetchRecord.
    """

    master: Name
    position: Position
    lineage: Lineage
    url: Text = ""
    peers: Annotated[tuple[Text, ...], Meta(max_length=MAX_PEERS)] = ()
    mends: bool = False

    def __post_init__(self) -> None:
        check_name(self.master)
        check_url(self.url)
        for address in self.peers:
            check_address(address)
        _check_position(self.position)
        _check_lineage(self.lineage)


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=34):
    """The master does not do what was asked.

    Attributes:
        reason: NEEDS_FULL_RESYNC, DIVERGED, HELLO_WANTED, WAIT, NEEDS_UPGRADE or BUSY; an unknown
            word is like BUSY.
        detail: A sentence for the operator.
        request: The transfer that it is about; 0 for the link as a whole.
        common_offset: With DIVERGED the last offset that both logs may agree on.
        url: Where clients reach the master; may be empty.
        wait_ms: With WAIT, when the replica may ask again.
        lineage: The reigns of the master's log, in the answer to a hello; empty otherwise.
        position: The end of the master's log, in the answer to a hello.
    """

    reason: Word
    detail: Text = ""
    request: Number = 0
    common_offset: Offset = 0
    url: Text = ""
    wait_ms: WaitMs = 0
    lineage: Lineage = ()
    position: Position = START

    def __post_init__(self) -> None:
        check_name(self.reason)
        check_url(self.url)
        # It is shown to the operator as it is.
        msgspec.structs.force_setattr(self, "detail", printable(self.detail))
        _check_position(self.position)
        _check_lineage(self.lineage)


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=35):
    """Whole frames of a transfer in the order of the log; the bulk part holds their bytes.

    Attributes:
        request: The fetch that it answers.
        sequence: Its number in the transfer, from 0.
        is_last: The transfer has ended with it; then it may hold no frame.
    """

    request: Number
    sequence: Number
    is_last: bool


class SnapshotOffer(msgspec.Struct, frozen=True, array_like=True, tag=36):
    """The snapshot that a transfer sends; chunks follow.

    Attributes:
        request: The fetch that it answers.
        lineage: The reigns of the log up to the snapshot.
        position: Where the log stood.
        time_ms: The master's wall clock in the last frame up to there.
        created_ms: Its wall clock when the snapshot was written.
        keys: Stored keys.
        size: Bytes of the image as it is sent.
        sha256: Of all of them.
        compression: How the image is compressed.
        at_byte: The first byte that is sent: what the replica holds of this snapshot, or 0.
        plain_bytes: Size of the image unpacked; 0 where the master does not know it.
    """

    request: Number
    lineage: Lineage
    position: Position
    time_ms: Milliseconds
    created_ms: Milliseconds
    keys: Offset
    size: Annotated[int, Meta(ge=1, le=_MAX_OFFSET)]
    sha256: Annotated[bytes, Meta(min_length=SHA256_BYTES, max_length=SHA256_BYTES)]
    compression: Literal["none", "zstd"]
    at_byte: Offset
    plain_bytes: Offset = 0

    def __post_init__(self) -> None:
        _check_position(self.position)
        _check_lineage(self.lineage)
        if not self.lineage or self.at_byte > self.size:
            raise ValueError("an offer of no lineage, or of bytes after its end")


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=37):
    """The bytes of an image from `at_byte` on; the bulk part holds them.

    Attributes:
        request: The fetch that it answers.
        at_byte: Place of the first of them.
        crc: CRC-32 of the bulk part.
    """

    request: Number
    at_byte: Offset
    crc: Number


class Recall(msgspec.Struct, frozen=True, array_like=True, tag=38):
    """A master that lost the end of its log asks a replica that holds it for what follows.

    Attributes:
        request: Number that the loans repeat; higher than in the recalls before.
        position: The end of the master's log.
        at_byte: How many bytes of the frames after it the master has of this replica.
        credit: Pieces that the replica may send before it hears more.
    """

    request: Number
    position: Position
    at_byte: Number
    credit: Annotated[int, Meta(ge=1, le=MAX_CREDIT)]

    def __post_init__(self) -> None:
        _check_position(self.position)


class RecordPiece(msgspec.Struct, frozen=True, array_like=True, tag=39):
    """A master gives a replica what it has of a record.

    Attributes:
        request: What it answers.
        offset: Last offset that the sender had applied when it looked.
        standing: THERE, ABSENT or DAMAGED; an unknown word is like the last.
        at_byte: Place of the piece in the record.
        size: How many bytes the record has as it is stored; 0 where there is none to give.
        piece: The bytes from there on.
    """

    request: Number
    offset: Offset
    standing: Word
    at_byte: Number
    size: Annotated[int, Meta(ge=0, le=MAX_BULK_BYTES)]
    piece: Annotated[bytes, Meta(max_length=MAX_PIECE_BYTES)] = b""


class RecallRecord(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A master whose record is damaged, and that can't make it anew, asks a replica for it.

    Attributes:
        request: Number that the answer repeats.
        space: Of the log.
        key: The record's.
        at_byte: The first byte that is wanted of the record as it is stored.
    """

    request: Number
    space: Annotated[int, Meta(ge=0, le=2)]
    key: Annotated[bytes, Meta(min_length=1, max_length=511)]
    at_byte: Number = 0


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """A sum over a range of the master's records, as `synap.store.range_digest` has it.

    Attributes:
        request: What it answers.
        offset: Last offset that the master had applied.
        records: How many records.
        sum: Over all of them.
        last: The last key; empty for none.
    """

    request: Number
    offset: Offset
    records: Number
    sum: Offset
    last: Annotated[bytes, Meta(max_length=511)]


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=65):
    """The master is alive, and its log ends at `last_offset`.

    Attributes:
        history: Id of the newest reign.
        epoch: Its number.
        last_offset: Last offset in the master's log; 0 on an empty one.
        clock_ms: The master's wall clock.
        interval_ms: Time to the next heartbeat at most.
        held: The last offset that one replica holds, that two hold, and so on; of the newest reign.
            None where the master does not tell, as programs before.
        path: Names of the relays that it came by, from the master on; empty from a master.
        age_ms: From a relay, how long ago a master that serves it was heard.
        known_offset: From a relay, the last offset that the master is known to have.
        lag_ms: From a relay, the age of the oldest entry that it knows of and lacks.
        about: The master; a relay sends on what it heard last.
    """

    history: History
    epoch: Offset
    last_offset: Offset
    clock_ms: Milliseconds
    interval_ms: IntervalMs
    held: Annotated[tuple[Offset, ...], Meta(max_length=MAX_PEERS)] | None = None
    path: Annotated[tuple[Name, ...], Meta(max_length=MAX_HOPS)] = ()
    age_ms: Milliseconds = 0
    known_offset: Offset = 0
    lag_ms: Milliseconds = 0
    about: AboutMaster = AboutMaster()

    def __post_init__(self) -> None:
        for name in self.path:
            check_name(name)


class Published(msgspec.Struct, frozen=True, array_like=True, tag=66):
    """One frame that was just committed; the bulk part holds its bytes.

    Attributes:
        history: Id of the newest reign of the sender: on a master, of the one that wrote it.
    """

    history: History


RecordRequest = FetchRecord | RecordLoan | FetchDigest
Request = Hello | Fetch | Credit | Ack | FetchSnapshot | Inquiry | Loan | RecordRequest
RecordAnswer = RecordPiece | RecallRecord | Digest
Answer = Welcome | Refusal | Chunk | SnapshotOffer | SnapshotChunk | Recall | RecordAnswer
Streamed = Heartbeat | Published
Message = Request | Answer | Streamed

_WITH_BULK = (Chunk, Published, SnapshotChunk)
Direction = TypeVar("Direction")
_encoder = msgspec.msgpack.Encoder()
# What decoding can raise: msgspec's own, text that is no UTF-8, numbers and nesting beyond bounds.
_UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, MemoryError)


def encode(message: Message, bulk: bytes | None = None) -> list[bytes]:
    """Return the parts of `message`.

    Args:
        message: Any message.
        bulk: The second part, for `Chunk`, `Published` and `SnapshotChunk` alone.
    """
    head = _PREFIX + _encoder.encode(message)
    return [head] if bulk is None else [head, bulk]


class Codec(Generic[Direction]):
    """Decodes the messages of one direction."""

    def __init__(self, direction: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(direction)

    def decode(self, parts: Sequence[bytes]) -> tuple[Direction, bytes]:
        """Return the message and its bulk part, which is empty where it has none.

        Raises:
            ProtocolViolation: The parts are no message of this direction and version.
        """
        if not 1 <= len(parts) <= 2:
            raise ProtocolViolation(f"a message of {len(parts)} parts")
        head = parts[0]
        if len(head) > MAX_HEAD_BYTES or len(parts[-1]) > MAX_BULK_BYTES:
            raise ProtocolViolation(f"a message of {sum(map(len, parts))} bytes")
        _check_prefix(head)
        try:
            message = self._decoder.decode(memoryview(head)[len(_PREFIX) :])
        except _UNREADABLE as error:
            raise ProtocolViolation(
                f"a message that can't be read: {printable(str(error))}"
            ) from error
        if (len(parts) == 2) != isinstance(message, _WITH_BULK):
            raise ProtocolViolation(f"a {type(message).__name__} of {len(parts)} parts")
        return message, parts[1] if len(parts) == 2 else b""


requests: Codec[Request] = Codec(Request)
answers: Codec[Answer] = Codec(Answer)
stream: Codec[Streamed] = Codec(Streamed)


def read_frames(bulk: bytes) -> list[Frame]:
    """Decode the frames of a bulk part, each checked by its CRCs.

    Raises:
        ProtocolViolation: The bytes are not whole frames.
    """
    frames = []
    at = 0
    try:
        while at < len(bulk):
            frame = decode_frame(bulk, at)
            at += len(frame.encoded)
            frames.append(frame)
    except (FrameCorrupt, FrameTruncated) as error:
        raise ProtocolViolation(f"a damaged frame at byte {at}: {error}") from error
    return frames


def check_image_bytes(chunk: SnapshotChunk, bulk: bytes) -> None:
    """Check the bytes of an image against their chunk.

    Raises:
        ProtocolViolation: They are damaged, none, or too many.
    """
    if not 0 < len(bulk) <= MAX_SNAPSHOT_CHUNK_BYTES:
        raise ProtocolViolation(f"a snapshot's chunk of {len(bulk)} bytes")
    if crc32(bulk) != chunk.crc:
        raise ProtocolViolation(f"damaged bytes of a snapshot at {chunk.at_byte}")


def _check_prefix(head: bytes) -> None:
    if head[: len(MAGIC)] != MAGIC:
        raise ProtocolViolation("a message without the protocol's magic")
    version = head[len(MAGIC) : len(_PREFIX)]
    if version != _PREFIX[-1:]:
        raise ProtocolViolation(
            f"the peer speaks protocol version {version[0] if version else 'none'}, "
            f"this program speaks {PROTOCOL_VERSION}; upgrade the older one"
        )


def _check_position(position: Position) -> None:
    if not (0 <= position.epoch <= _MAX_OFFSET and 0 <= position.offset <= _MAX_OFFSET):
        raise ValueError("a position out of range")
    if not 0 <= position.rolling < 2**64:
        raise ValueError("a rolling checksum out of range")


def _check_lineage(lineage: Lineage) -> None:
    if len(lineage) > MAX_REIGNS:
        raise ValueError(f"a lineage of {len(lineage)} reigns")
    before_epoch, before_offset = 0, 1
    for reign in lineage:
        if len(reign.history) != HISTORY_BYTES:
            raise ValueError("a history id of the wrong length")
        in_order = before_epoch < reign.epoch and before_offset <= reign.first_offset
        if not (in_order and reign.epoch <= _MAX_OFFSET and reign.first_offset <= _MAX_OFFSET):
            raise ValueError("a lineage out of order")
        before_epoch, before_offset = reign.epoch, reign.first_offset
