"""An HTTP/1.1 server for one Gunicorn worker and any ASGI application: uvloop and httptools.

A request's way: `acceptor` takes the connection, `connection` keeps its requests and answers in
order, `request_parser` turns bytes into requests, `exchange` is one request and its answer.

    worker            the Gunicorn worker class
    server            what the connections of a process share; drains them at the end
    acceptor          takes connections, few in each turn, so that the workers share them
    proxy_protocol    whose connection a balancer passes on
    connection        one client: requests in order to the application, answers in order back
    connection_state  how far it is on its way to its end
    flow_control      which side waits for the other
    client_timeouts   how long the client may take
    request_parser    bytes to requests, and what the parser leaves open is guarded
    exchange          `receive` and `send` of one request
    places            who may have a connection, and who loses it to others
    held_memory       how much the connections hold for their clients
    framing           status lines, header lines, refusals: what goes on the wire
    head_lines        what a head says, from lines that were seen before
    head_cache        heads that were seen before, byte for byte
    deferred_answer   the place of an answer that comes later
    eager_tasks       runs a coroutine at once; a task only if it waits
    lifespan          tells the application of start and end
    limits            what one client may ask of a worker
"""
