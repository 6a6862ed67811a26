"""The agent's parts with a real etcd."""
