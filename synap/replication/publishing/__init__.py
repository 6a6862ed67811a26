"""A master's side: the rules joined to the log, the sockets, the clock and the board.

publisher             publishes frames, serves hellos and acks
relaying              a publisher on a replica, which sends on what that appended
told                  lines and rows about replicas
catch_up              frames from the log, in chunks
snapshot_service      a snapshot, in chunks
transfers             what both share: reading in a thread, and credit
known_replicas        whom the master asks at its next start
peer_check            asks them whether another node reigns by now
rival_watch           asks, as long as the node is a master, whether another one outranks it
predecessor_notice    tells the master before this one that its reign has ended
"""
