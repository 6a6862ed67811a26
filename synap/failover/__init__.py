"""Who is the next master, and when: the rules of a fail-over, by hand or by itself.

rules     how many seals a promotion needs, who is ahead, who goes for the key and when; pure
agent     one loop on each node: keeps the key, goes for it, or follows whoever has it
campaign  a candidate's seals and office, and a handover
home      the agent's own node
records   what nodes tell each other at the engine
etcd      the engine's client
"""
