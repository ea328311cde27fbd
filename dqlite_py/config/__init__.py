"""Settings: frozen, validated once, units in their names.

One table (``SETTINGS``) drives the flags of ``dqlite-py server``, the ``DQLITE_PY_*`` variables and
the keys of ``--config-file``. A flag beats a variable, a variable beats the file, the file beats
the default.
"""

from __future__ import annotations

from dqlite_py.config.endpoint import Endpoint
from dqlite_py.config.loading import load, read_config_file
from dqlite_py.config.model import (
    JoinConfig,
    LimitConfig,
    MemberConfig,
    RaftConfig,
    ServerConfig,
)
from dqlite_py.config.security import SecurityConfig, TlsConfig, warnings
from dqlite_py.config.settings import ENV_PREFIX, SETTINGS, Setting

__all__ = [
    "ENV_PREFIX",
    "SETTINGS",
    "Endpoint",
    "JoinConfig",
    "LimitConfig",
    "MemberConfig",
    "RaftConfig",
    "SecurityConfig",
    "ServerConfig",
    "Setting",
    "TlsConfig",
    "load",
    "read_config_file",
    "warnings",
]
