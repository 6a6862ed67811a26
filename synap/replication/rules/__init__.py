"""The pure rules of replication, in the order to read them.

    messages      what is said, and its bytes
    plan          what a joining replica gets
    progress      where a link stands: its state, its silence, what is missing
    lag           how far a replica is behind
    master_clock  what a replica takes for the time
    pace          when a replica appends what it has heard
    follower_io   what a follower is told and tells
    ancestry      what a replica knows of the nodes above it
    follower_stage  how far a follower is with its master
    follower      the replica's side as a state machine
    resync        its full resync
    master        the other side
    relay         the same on a replica that has replicas
    roster        what a master knows of its replicas
    crowd         which name goes for another one
    turns         who gets the next place for a full resync
    quorum        when enough of them hold a write
    reigns        when a master's reign has ended, and whose data is ahead
    record_copies  single records between nodes, piece by piece
    mending       when a copy may take a damaged record's place
    restart       whom a master asks that may have lost the end of its log
    peer_words    what a peer may say in names and addresses
    line_limit    how many log lines one peer may cause

Tried in a simulated cluster, seed by seed: `tests/simulation/`.
"""
