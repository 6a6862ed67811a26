"""A cluster of the shipped replication rules over a fake network, fake disks and a fake clock.

`run.simulate(seed)` is the way in; `world` is the cluster and its operator, `node` one node's
processes, `disk` and `store` what outlives them, `network`, `clocks` and `timeline` the rest of the
machine, `stories` what chance alone would hardly do. `relayed` is a cluster with relays, and
`simulate_relays(seed)` a life of it.
"""
