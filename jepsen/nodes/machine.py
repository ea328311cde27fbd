"""What this machine lacks for the full set of faults, and what it is."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable


def _tools(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name) for name in names)


PACKAGES: dict[str, tuple[Callable[[], bool], str]] = {
    "iproute2": (_tools("ip", "tc"), "network namespaces and slow links; else a proxy is used"),
    "nftables": (_tools("nft"), "partitions and lost packets; else a proxy is used"),
    "gcc and libc6-dev": (_tools("gcc"), "lost-writes, slow-fsync, clock-jump, clock-drift"),
}
"""Debian's packages, whether each is here, and what cannot be done without it."""


def lacking() -> list[str]:
    """Return one line for each thing that is missing, with what it is needed for."""
    lines = [
        f"missing: Debian's {name}, for {use}"
        for name, (present, use) in PACKAGES.items()
        if not present()
    ]
    if os.geteuid() != 0:
        lines.append("not root: no network namespaces and no small disks; a proxy is used")
    return lines


def described() -> str:
    """Return the machine in one line: cores, kernel, Python."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python " + (
        platform.python_version()
    )
