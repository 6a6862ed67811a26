"""The configuration of a node. Nothing is imported here: a child of a node starts without pydantic.

keys             every key by section: its type, limits and default; the values of a node
checks           what given values must be, made of `keys`; the part that needs pydantic
loading          where values come from, and how faults are told
yaml_file        the file's text, bounded, with every key once
handed           a checked configuration, handed from a supervisor to its children
failover         what follows from its keys
membership       whether a node may replicate as it is configured
cpus             how many CPUs a process may use, by affinity and quota
variables        names of the environment's variables
account_limits   what accounts may be called
"""
