"""Shared memory between the processes of a node; reading it costs nobody a wait.

board               what the log's owner tells the others
series              counts and distributions, summed over processes
claimed_file        a file for each process, which the kernel frees when it ends
slow_log            the requests that took long
rate_limiter        how often each client has asked
connection_counts   how many connections each worker has
"""
