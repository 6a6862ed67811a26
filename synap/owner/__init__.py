"""What the log's owner does beside its main work, on a master and on a replica alike.

comparison      a replica's records, compared with its master's
snapshotter     takes snapshots, and lets old segments go that they cover
role_change     what a change of role would lose, and the change itself
own_address     whether an address is one of this node's own
owner_metrics   what the owner adds to the node's metrics
own_clock       a master's clock, which follows no jump that nobody has confirmed
home_watch      looks whether the files are where they were opened
store_care      what keeps the live store sound: the two below, and making it anew
verifier        looks at all records, in a process of its own (verification)
mender          puts sound copies in place of damaged records
verification    the work of that process
stale_readers   frees what dead readers of the store held
"""
