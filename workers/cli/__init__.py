"""The commands of `synap`, a file for each group; `workers.main` picks.

app              the whole command line
serve            `synap serve`, apart: a node starts without the others' imports
options          --url and the other options of commands that ask a node
data             get, set, del, incr, scan
accounts         users and API keys
shell            the commands line by line
shell_prompt     its prompt: history and completion
status           the nodes of a cluster as a table
cluster_status   the rows of that table, found from any node
members          what was seen of clusters, for when a master is lost
doctor/          all that nodes and their machines are known to fail by
cluster          digest, promote, follow, switchover
switchover       moving the master to a replica
failover         promoting a replica whose master is lost
diff             which keys two nodes hold differently
backup, exports, wal, replication, clock, keys    the commands of these subjects
agents           what `synap failover` asks of the agents, by their engine
history          the reigns that a log went through
man              manual pages of all commands
roll, rolling    restarting a cluster node by node
slots            which cluster has which keys
slot_move        moving a slot between clusters
watch            the changes of keys as they happen
http_call        calling a running node
silence          why it gave no answer
owner_call       calling the log's owner of a node on this machine
"""
