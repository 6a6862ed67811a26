"""Looking into a node's files and mending them, for an operator.

inspection      what a file or folder is and holds; read only
log_repair      what would go from a log that a node refuses, and moving it aside
store_rebuild   has a node rebuild its live store at its next start
"""
