"""The write-ahead log: encoded frames in segment files, appended by one owner.

    wal              the log as its owner has it
    segment          one file: its header, its name, its frames
    active_segment   the one that is appended to, and how the next takes its place
    syncer           when appended frames are forced to the disk
    cursor           reading while the owner appends
    scan             what of the files is sound, what torn, what damaged; all others ask it
    walk             going through the files as they lie there

The log knows frames and positions, not what the entries mean. `docs/wal-format.md` has the bytes.
"""
