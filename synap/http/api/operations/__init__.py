"""The operations on keys and the node, each described once for its route and its command.

operation     what an operation is, and what carries it out: Read, LongRead, Write, Transact
whole_keys    set, get, del, mset, mget: keys as a whole
values        incr, append, getrange and their like: changes to a value, and its parts
deadlines     expire, persist, ttl
keyspace      scan, keys, stats, flushall: all keys
names         exists, type, rename, copy: keys as names
txn           conditions, and several of these in one request
transactions  multi, exec, discard, watch, unwatch
node          info, slowlog, client.list, admin.config: what the node tells of itself
table         all of them, by their names

A new operation stands in one of these files: its body, what it comes to, what it answers.
"""
