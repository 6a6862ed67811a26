"""Who may do what: pure rules of users, keys, roles and permissions, and the hashing of secrets.

    permissions   permissions, roles, callers, and what each command needs
    accounts      users and API keys as records of the store
    passwords     hashes of passwords and API keys: made, and compared

Who is asking is found out in `synap.http.api.credentials`, with what `synap.service` knows.
"""
