"""Synap's API over HTTP: a Falcon application that translates between HTTP and `synap.service`.

app                puts the application together
fast_path          requests that a node mostly gets, past Falcon
hot_routes         those of the short way, made of operations
headers            the headers that are read at all, and what each means to the short way
hot_headers        the same for `head_lines`
feed_stream        a feed as parts, for servers that know no feeds
falcon_app         Falcon by a shorter way from the request to the answer
routing            paths to resources, with keys as they were sent
operations/        what is done with keys and told of the node: once for its route and its command
request, resource  what a resource reads of a request, and writes in every answer
bodies             how bodies are decoded
content_coding     bodies that come packed
packing            long answers, packed for those who ask
etags, conditions  conditions on a key's version
idempotency        requests that may be sent again
known_requests     what nobody would hear is refused
errors             errors as a client sees them: one table, one form
slot_guard         which keys a request may be about
auth_guard         who asks is known before anything is answered
known_credentials  those that were checked before
credentials        from the credentials of a request to a caller
cross_site         what a page of another site may do here: nothing, unless it is named
trusted_proxies    whose word about a client is believed
client_address     which address a request comes from, through trusted proxies
rate_limits        so many requests a second for each client
request_observer   counts, durations, ids, slow log
access_log         a line for each request
spans              spans of requests, where somebody collects them
traces             which trace a request is part of
endpoints/         the resources, a file for each subject
console/           the page for browsers about the node
openapi/           what the API says of itself
"""
