"""``python -m dqlite_py`` is the console script ``dqlite-py``."""

from __future__ import annotations

import sys

from dqlite_py.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
