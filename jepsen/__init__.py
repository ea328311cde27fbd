"""A black-box tester: real servers, injected faults, recorded histories, strict checkers."""

from __future__ import annotations

import os

# Connections to killed servers end without a goodbye, and gRPC would print a line for each.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
