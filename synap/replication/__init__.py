"""Replication: how a master's frames reach its replicas.

Pure rules, in the order to read them: `messages` (what is said), `plan` (what a joining replica
gets), `progress` (where a link stands), `link` and `follower` (the replica's side as a state
machine), `resync` (its full resync), `roster` (what the master knows of its replicas). `sockets`
alone knows ZeroMQ; `catch_up`, `snapshot_service`, `installer`, `publisher`, `subscriber` and
`replica_board` join the rules to the log, the sockets, the clock and the board. `docs/protocol.md`
is the protocol in words.
"""
