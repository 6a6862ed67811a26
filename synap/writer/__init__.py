"""The master's writer: the commands of all HTTP workers, made one log.

writer            the process's engine: gathers, carries out, answers
inbox             what arrived, and the turn that is due for it
turn              one turn: what it takes, and what it answers
write_gate        why no writes are taken, if none are
lease             until when they are taken, where an engine of elections says so
sweeper           removes expired keys, and keeps the memory limit meanwhile
pause             writes that pause for a change of role
pause_handler     what is asked for one: to pause, to go on, to step down
request_table     what is remembered of requests that may be sent again
slot_guard        keeps writes from a slot that moves
quorum_answers    answers that wait for replicas
writer_status     how the writer stands, on the board
"""
