"""The change feed's engine: what of the log a watcher gets, in which form, and from where.

A worker reads the log's files behind its owner, decodes each frame once, and keeps the newest ones
in a ring. A watcher is a place in the log and no more: what it has not had comes from the ring, or
from the files where it fell behind. No sockets, no event loop: `synap.service.feed` drives it.

    filters    which keys a watcher wants; pure
    changes    a frame as the changes that it made, encoded once for each form; pure
    forms      the events' bytes: lines of JSON, Server-Sent Events, a long poll's; pure
    ring       the newest frames; pure
    lane       who wants to know of which key, and how far all of them are; pure
    pace       how soon to look what is new; pure
    resume     whether the log goes on from a place, by the rules for replicas; pure
    log_files  the log's files as another process than their owner sees them
    tail       the frames that were applied since the last look
"""
