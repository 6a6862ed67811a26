"""The HTTP application: Falcon resources over the calls that a client may make.

`app.create_app` puts it together. Resources translate HTTP to `calls` and back, and hold no rule of
their own; `calls` reads the store directly and hands writes to the log's owner.
"""
