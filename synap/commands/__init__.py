"""Commands: what changes keys, and the effects that go into the log. Pure: time comes in as `now`.

In the order to read them:

    records        what is stored for a key, and the rules by which it is read
    values         JSON values and the bytes that they are stored as
    keyspace       what commands read and change, and what every command is asked
    strings        the commands on one key's value
    keys           the commands on keys, whatever they hold
    txn            conditions, and several of these in one frame
    accounts       the command that changes accounts
    slots          the commands that move a slot between clusters
    confirm        what asks whether replicas hold what was read
    commands       all of them in one type, and their results
    transactions   commands that clients queue, and keys that they watch
    once           requests that may be sent again
    request_records what is stored of such a request
    glob           patterns for keys
    key_spans      keys that lie together
"""
