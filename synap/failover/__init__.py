"""Who is the next master, and when: the rules of a fail-over, by hand or by itself.

rules        how many seals a promotion needs, who is ahead, who goes for the key and when; pure
agent        one loop on each node: keeps the key, goes for it, or follows whoever has it
campaign     a candidate's seals and office, and a handover
office       what a leader does
hold         a node's lease, and what its log's owner is given of it
agent_state  what the agent tells its node's other processes
home         the agent's own node
pace         the agent's clocks
records      what nodes tell each other at the engine
engine       what an engine of elections is to an agent
etcd         etcd's client
kubernetes   the client of Kubernetes' Leases
wire         one HTTP request to either
"""
