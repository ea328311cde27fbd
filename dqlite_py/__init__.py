"""A Raft-replicated SQLite that serves the etcd v3 API."""
