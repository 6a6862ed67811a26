"""The memory limit: which keys go when the store is full, and how often each is used.

rules          how keys are ranked and when writes are refused; pure
access_table   when and how often keys are used, in shared memory
evictor        chooses the keys that go, in the owner
"""
