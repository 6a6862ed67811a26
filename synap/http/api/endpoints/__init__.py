"""The resources of the API, a file for each subject.

root              `/`
operations        `/kv/…`, `/key/…`, `/stats` and their like: the routes of `api.operations`
raw_values        `/raw/{key}`
commands          `/api/v1/command`: the same by name
exports           `/kv/export`, `/kv/import`
watch             `/watch`: the change feed
idempotency       `/idempotency/{key}`
status            `/health`, `/health/replication`, `/digest`
probes            `/liveness`, `/readiness`, `/primary`, `/replica`: for load balancers
metrics           `/metrics`, with `metric_families` and `agent_metrics`
backup            `/backup`
slots             `/cluster/slots/…`
snapshots         `/snapshot`
replication       `/replication/…`
users, api_keys   `/auth/…`, with `account_resource`
"""
