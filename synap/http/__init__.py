"""HTTP: two houses, one wall between them.

    server   serves any ASGI application: connections, parsing, framing, limits, draining
    api      Synap's application: routes, authentication, answers; may import the server

What a node can do without HTTP is `synap.service`.
"""
