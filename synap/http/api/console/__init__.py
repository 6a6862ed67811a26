"""The console: a page for browsers about the node that serves it, `GET /console`.

    files    what files there are, those of `page/` and those of others in `synap.http.vendor`
    pages    their routes
    page/    the page itself: plain modules, a folder for each of its rooms

The page asks this node alone, by the API and with the permissions of the API.
"""
