"""The configuration of a node. Nothing is imported here: a child of a node starts without pydantic.

keys             every key by section: its type, limits and default
loading          where values come from, and what is wrong with them
handed           a checked configuration, handed from a supervisor to its children
membership       whether a node may replicate as it is configured
variables        names of the environment's variables
account_limits   what accounts may be called
"""
