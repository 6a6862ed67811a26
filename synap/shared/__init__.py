"""Shared memory between the processes of a node; reading it costs nobody a wait.

claimed_file        a file for each process, which the kernel frees when it ends; readers sum them
  series            counts and distributions
  counters          how often HTTP workers did what
  watcher_counts    how many watchers each HTTP worker has
  slow_log          the requests that took long
node_file           a file that all map, made whole before anybody can
  board             what the log's owner tells the others
  node_clock        the wall clock that deadlines go by
  accounts_version  whether the node's accounts have changed
  rate_limiter      how often each client has asked
  connection_counts how many connections each worker has; no file, for it is made before the fork
"""
