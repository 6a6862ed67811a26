"""A node's data directory, and opening it after whatever happened.

paths           where everything lies; computes, creates nothing
identity        `node.json` (id, role, lineage) and the locks on the directory
data_dir        WAL, live store and identity as one, with one owner
recovery        which files count at a start, and how far they lead
salvage         single records, made anew from snapshot and log
replay          brings the live store to the log's end
resync_switch   puts a received snapshot in the place of log and store
suspicion       a note that the live store is to be rebuilt
past            the reigns that the log went through
aside           puts files of another history aside; nothing is deleted
procfs          what the kernel tells of processes and connections
"""
