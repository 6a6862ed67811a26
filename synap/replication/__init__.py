"""Replication: how a master's frames reach its replicas.

Pure rules, in the order to read them: `messages` (what is said), `plan` (what a joining replica
gets), `progress` (where a link stands), `lag` (how far a replica is behind), `link` and `follower`
(the replica's side as a state machine), `resync` (its full resync), `master` (the other side),
`roster` (what it knows of its replicas), `quorum` (when enough of them hold a write), `reigns`
(when a master's reign has ended).

`sockets` is ZeroMQ on the loop, with `curve` and `handshakes` for encryption. The rest joins the
rules to the log, the sockets, the clock and the board: `publisher`, `catch_up`, `snapshot_service`
(both by `transfers`), `herald` and `inquirer` on a master, `subscriber`, `installer` and
`replica_board` on a replica. `docs/protocol.md` is the protocol in words.
"""
