"""The change feed on one worker: who watches, what they are told, and from where.

`synap.watch` has the engine, which knows no loop and no clients; here it is driven.

    watching     who watches, and the look that wakes them
    tailed_log   the node's log as they see it
    held_lanes   those who are told only what replicas hold
    watch        one watcher's way through the feed: a place, and what is told from there
    live_watch   a stream
    first_state  the keys that a stream may begin with
    poll         one answer of a long poll
"""
