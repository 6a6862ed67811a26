"""The master's writer: the commands of all HTTP workers, made one log.

writer            the process's engine: gathers, carries out, answers
turn              one turn: what it takes, and what it answers
pause             writes that pause for a change of role
quorum_answers    answers that wait for replicas
writer_status     how the writer stands, on the board
"""
