"""Printing rows as a table for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

WIDTH_MIN = 160


def print_rows(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print ``rows``, all with the same keys, as ``output`` says: ``table`` or ``json``."""
    if output == "json":
        click.echo(json.dumps(list(rows), indent=2))
        return
    # rich is slow to import and large in memory; only tables need it.
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for heading in rows[0] if rows else ():
        table.add_column(heading.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(as_text(value) for value in row.values()))
    # Ids and URLs broken into pieces can not be read or copied: better lines that are too long.
    console = Console()
    console.width = max(console.width, WIDTH_MIN)
    console.print(table)


def as_text(value: Any) -> str:
    """Return a cell's text: lists joined by commas, booleans as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
