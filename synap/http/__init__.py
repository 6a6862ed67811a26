"""HTTP: two houses, one wall between them, and what pages bring along.

    server   serves any ASGI application: connections, parsing, framing, limits, draining
    vendor   files of others that pages use, as they were published
    api      Synap's application: routes, authentication, answers; may import the server

What a node can do without HTTP is `synap.service`.
"""
