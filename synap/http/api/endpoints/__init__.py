"""The resources of the API, a file for each subject.

keys              `/kv/…`, `/key/…`
raw_values        `/raw/{key}`
commands          `/api/v1/command`, with `command_table`, `command_payloads`, `named_command`
status            `/health`, `/stats`, `/info`, `/digest` and their like
probes            `/liveness`, `/readiness`, `/primary`, `/replica`: for load balancers
metrics           `/metrics`, with `metric_families`
backup            `/backup`
snapshots         `/snapshot`
replication       `/replication/…`
users, api_keys   `/auth/…`, with `account_resource`
"""
