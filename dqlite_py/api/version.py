"""The etcd version this server presents to clients, which choose features by it.

Plain ``X.Y.Z``: some clients parse the parts as integers and fail on any suffix.
"""

from __future__ import annotations

SERVER_VERSION = "3.6.14"
CLUSTER_VERSION = "3.6.0"
STORAGE_VERSION = "3.6.0"
