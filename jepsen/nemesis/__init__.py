"""Nemeses by name: every module of this package that defines some is found by itself."""

from __future__ import annotations

import importlib
import pkgutil

from jepsen.nemesis.nemesis import Nemesis


def all_nemeses() -> dict[str, type[Nemesis]]:
    """Return every nemesis by its name."""
    found: dict[str, type[Nemesis]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Nemesis) and "name" in vars(value):
                found[value.name] = value
    return dict(sorted(found.items()))
