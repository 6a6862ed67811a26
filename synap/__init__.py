"""Synap: a small replicated key-value cluster with an HTTP/JSON API.

`docs/architecture.md` is the map. This package is the library and the HTTP application; the
processes that run it live in `workers/`, which this package never imports.
"""

__version__ = "0.1.0"
