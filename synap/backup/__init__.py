"""Backups: one consistent image of a node's store in a file, fetched, proven and restored.

    archive   the file: manifest, image, checksum, as it is written and read
    fetch     getting one from a running node, and proving that it restores
    restore   a data directory made of a backup or snapshot, and of a part of a log on top of it

`docs/backup-format.md` has the bytes.
"""
