"""Between the processes of one node: UNIX sockets, and what is said on them.

messages            what HTTP workers and the log's owner say to each other
admin_messages      requests for the owner's own work: snapshots, roles, pauses
writer_client       the HTTP worker's end: writes, and their answers
worker_connection   the owner's end
admin_socket        requests for the owner's own work, asked and served
"""
