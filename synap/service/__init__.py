"""What a node can do and tell, as typed calls; knows no HTTP.

node_api            reads and writes, checked against permissions; a replica's refusal
wide_reads          those of its reads that look at many keys or at all
waits               what waits on a worker, shared among its clients
local_node          this worker's share of its node: store, board, counters
store_watch         reads that wait for the store: one look for all of them
known_lineages      whose the entries of the log are
exports             keys as lines of JSON
feed/               the change feed on one worker
node_facts          what a node tells of itself
cluster_facts       what it tells of its cluster
node_processes      its processes, by what they are
rates               how often things happen
account_directory   users and keys as this node has them now
password_checks     checking passwords beside the loop, seldom
login_queue         whose password is checked next
slot_table          which slots are here
audit               the audit log
"""
