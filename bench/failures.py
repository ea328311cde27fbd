"""What a bench raises instead of giving a figure."""

from __future__ import annotations


class CannotMeasure(Exception):
    """A tool is missing, a server failed, or a load was not answered; the text says which."""
