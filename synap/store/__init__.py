"""The live store: the keys as the log has made them, in an LMDB environment.

The log's owner opens a `Store` and changes it, one `WriteTransaction` at a time; the applied
position is in the same transaction as the data. Every other process of the node opens a
`StoreReader`, which sees whole transactions and blocks nobody. All is opened after the fork.

LMDB does not sync here: after a crash of the machine the log rebuilds the store, and the marker
(see `generations`) says when that is needed. Only this package imports lmdb.

    layout        what the databases hold, byte by byte; records made and checked; pure
    walks         going through many keys; pure but for the cursors that it is given
    generations   folders, CURRENT and the marker
    mounts        which mount a file lies in
    environment   LMDB opened, and its errors translated
    reserve       blocks for what a transaction writes through the map
    image         a whole store as one file
    range_digest  a sum over a range of keys, by which stores are compared
    scrubbing     looking at every record, a slice at a time
    upgrade       checksums for a store that a program of before wrote
    pages         an image's pages, looked at before LMDB maps them; pure
    room          the pages' number, samples of the keys, and tidying
    bulk          many frames of the log, sorted and written at once
    reader, transaction, owner    the three handles
"""

from synap.store.bulk import Bulk
from synap.store.generations import MACHINE_RESTARTED, MOUNTED_ANEW, NO_STORE, is_trusted
from synap.store.image import ImageFacts, check_image, digest_image, look_into, walk_image
from synap.store.layout import Applied, ScanPage, StoreFacts
from synap.store.owner import Store
from synap.store.reader import RecordWalk, StoreReader
from synap.store.room import KeySize, Room, StoreSize
from synap.store.transaction import WriteTransaction

__all__ = [
    "MACHINE_RESTARTED",
    "MOUNTED_ANEW",
    "NO_STORE",
    "Applied",
    "Bulk",
    "ImageFacts",
    "KeySize",
    "RecordWalk",
    "Room",
    "ScanPage",
    "Store",
    "StoreFacts",
    "StoreReader",
    "StoreSize",
    "WriteTransaction",
    "check_image",
    "digest_image",
    "is_trusted",
    "look_into",
    "walk_image",
]
