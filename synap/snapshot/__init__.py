"""Snapshots: the store at one offset as a file, with a manifest that proves it.

image      the file and its manifest, written and verified
folder     which files make a snapshot, how one appears and goes; its names
job        one snapshot as a process's work
schedule   when one is due; pure
"""
