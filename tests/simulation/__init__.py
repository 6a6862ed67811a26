"""A cluster of the shipped replication rules over a fake network, fake disks and a fake clock.

`run.simulate(seed)` is the way in; `world` is the cluster and its operator, `node` one node's
processes, `disk` what outlives them, `network` and `timeline` the rest of the machine.
"""
