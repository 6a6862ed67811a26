"""A replica's side: the rules joined to the log, the sockets, the clock and the board.

subscriber       keeps a link, to one node after the other
upstreams        whom it calls next
way_back         when it goes back to one that stands further up
link             one link's two sockets; hands what comes to the follower
listening        whether a master is heard at an address
installer        the disk's part of a full resync, beside the loop
freshness        how old the data is, over restarts
replica_status   how the replica stands, on the board
"""
