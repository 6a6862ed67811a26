"""What the client decides, without sockets, clocks or chance of its own.

`kinds` tells what a request is, `answers` what an answer means, `nodes` who is asked next,
`positions` what a read has to see, and `attempts` joins them for one request.
"""
