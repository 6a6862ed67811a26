"""Replication: how a master's frames reach its replicas.

    rules/        what each side decides, without sockets, disks or a clock; start here
    transport/    ZeroMQ on the loop, with its encryption: the only place that knows zmq
    publishing/   a master's side: rules joined to the log, the sockets, the board
    following/    a replica's side
    record_asking   asks another node for records, on either side

`docs/protocol.md` is the protocol in words.
"""
