"""The memory limit: which keys go when the store is full, and how often each is used.

rules          who goes and when writes are refused; pure
access_table   when and how often keys are used, in shared memory
evictor        the rules at work in the log's owner
"""
