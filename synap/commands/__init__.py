"""Commands: what changes keys, and the effects that go into the log. Pure: time comes in as `now`.

In the order to read them:

    records        what is stored for a key, and the rules by which it is read
    values         JSON values and the bytes that they are stored as
    commands       every command, and what it does to a keyspace
    keyspace       keyspaces beside the store's own: keys on which a command is tried
    transactions   commands that clients queue, and keys that they watch
    glob           patterns for keys
"""
