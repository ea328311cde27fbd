"""Workloads by name: every module of this package that defines one is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from jepsen.workloads.workload import Workload


def all_workloads() -> dict[str, type[Workload]]:
    """Return every workload by its name."""
    found: dict[str, type[Workload]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Workload) and value is not Workload:
                found[value.name] = value
    return dict(sorted(found.items()))
