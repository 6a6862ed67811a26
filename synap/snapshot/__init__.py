"""Snapshots: the store at one offset as a file, with a manifest that proves it.

image      the file and its manifest, written and verified
folder     which files make a snapshot, how one appears and goes; its names
apart      looking at an image from elsewhere, in a process of its own
job        one snapshot as a process's work
schedule   when one is due; pure
"""
