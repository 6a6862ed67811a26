"""`synap doctor`: looks at all that nodes and their machines are known to fail by.

findings    what was found: how bad it is, what it is, what to do
cluster     a whole cluster, from the rows of `synap status`
asking      one running node, by its HTTP API
metrics     what a node's metrics show: the conditions of the alerts that need no history
machine     the machine that a node runs on
directory   a data directory, and a folder of backups
settings    the configuration, and the environment's variables
command     arguments, words and exit codes

Each check takes plain values and yields findings; it changes nothing.
"""
