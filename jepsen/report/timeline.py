"""Operations drawn as bars, one row for each client, in the order of their events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from html import escape

from jepsen.checkers.result import brief
from jepsen.history import NEMESIS, NEVER, OK, Event, Operation

AROUND_EVENTS = 6
MAX_BARS = 160
COLUMN_PX = 46
ROW_PX = 30
MARGIN_PX = 90
CHARACTER_PX = 6.2


def nearby(operations: Sequence[Operation], indexes: Iterable[int]) -> list[Operation]:
    """Return the operations with an event among ``indexes``, and those close to them."""
    wanted = set(indexes)
    near = {index + step for index in wanted for step in range(-AROUND_EVENTS, AROUND_EVENTS + 1)}
    involved = [each for each in operations if wanted & events_of(each)]
    close = [each for each in operations if near & events_of(each) and each not in involved]
    return sorted([*involved, *close][:MAX_BARS], key=lambda each: each.start)


def events_of(operation: Operation) -> set[int]:
    """Return the indexes of the events of an operation."""
    found = {operation.start}
    if operation.completion is not None:
        found.add(operation.completion.index)
    return found


def draw(
    operations: Sequence[Operation], events: Sequence[Event], highlighted: Iterable[int]
) -> str:
    """Return an SVG picture; ``highlighted`` holds the indexes of the events that matter."""
    columns = sorted({index for each in operations for index in events_of(each)})
    rows = sorted({each.process for each in operations})
    marked = set(highlighted)
    width = MARGIN_PX + COLUMN_PX * (len(columns) + 2)
    height = ROW_PX * (len(rows) + 1) + 8
    parts = [f'<svg width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">']
    for row, process in enumerate(rows):
        y = ROW_PX * (row + 1)
        parts.append(f'<text x="4" y="{y + 18}" class="who">process {process}</text>')
        parts.append(f'<line x1="{MARGIN_PX}" x2="{width}" y1="{y + 14}" y2="{y + 14}"/>')
    parts += _faults(events, columns, height)
    for each in operations:
        parts.append(_bar(each, columns, rows.index(each.process), bool(events_of(each) & marked)))
    return "\n".join([*parts, "</svg>"])


def _x(columns: Sequence[int], index: int) -> int:
    return MARGIN_PX + COLUMN_PX * bisect_left(columns, index)


def _bar(operation: Operation, columns: Sequence[int], row: int, marked: bool) -> str:
    left = _x(columns, operation.start)
    ended = operation.end != NEVER
    last = operation.completion.index if operation.completion is not None else NEVER
    right = _x(columns, last) + COLUMN_PX // 2 if ended else _x(columns, NEVER) + COLUMN_PX
    y = ROW_PX * (row + 1) + 2
    css = f"{operation.type}{' marked' if marked else ''}"
    label = _label(operation)
    room = max(1, int((min(right, _x(columns, NEVER)) - left) / CHARACTER_PX))
    shown = label if len(label) <= room else label[: max(1, room - 1)] + "…"
    title = escape(brief(f"{label} | node {operation.node} | {operation.extra}", 1200))
    return (
        f'<g class="{css}"><title>{title}</title>'
        f'<rect x="{left}" y="{y}" width="{right - left}" height="{ROW_PX - 6}" rx="3"/>'
        f'<text x="{left + 4}" y="{y + 16}">{escape(shown)}</text></g>'
    )


def _label(operation: Operation) -> str:
    key = "" if operation.key is None else f" {operation.key}"
    value = operation.answer if operation.type == OK and operation.answer is not None else None
    told = operation.request if value is None else value
    revision = "" if operation.revision is None else f" @{operation.revision}"
    return f"{operation.f}{key} {brief(told, 300)}{revision}"


def _faults(events: Sequence[Event], columns: Sequence[int], height: int) -> Iterable[str]:
    if not columns:
        return
    for event in events:
        if event.process != NEMESIS or not columns[0] <= event.index <= columns[-1]:
            continue
        x = _x(columns, event.index) - COLUMN_PX // 4
        title = escape(brief(f"{event.f} {event.value}", 400))
        yield (
            f'<g class="fault"><title>{title}</title><line x1="{x}" x2="{x}" y1="0" '
            f'y2="{height}"/><text x="{x + 3}" y="12">{escape(event.f)}</text></g>'
        )
