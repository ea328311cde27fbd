"""Logging of the server: one line an event on standard error, ``key=value`` after the message."""

from __future__ import annotations

import logging
import time
from typing import Any

# What every record has by itself; anything else was passed as ``extra`` and is printed.
_BUILT_IN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO message key=value``; never more than one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback follows escaped as ``error=``."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        parts = [f"{seconds}.{int(record.msecs):03d}Z", record.levelname, record.getMessage()]
        extra = {key: value for key, value in vars(record).items() if key not in _BUILT_IN}
        parts += [f"{key}={quoted(value)}" for key, value in extra.items()]
        if record.exc_info:
            parts.append(f"error={quoted(self.formatException(record.exc_info))}")
        return " ".join(parts).replace("\n", "\\n")


def quoted(value: Any) -> str:
    """Return ``value`` as text, in quotes when it is empty or holds blanks or quotes."""
    text = str(value)
    if text and not any(character.isspace() or character in '"=' for character in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def set_up_logging(level: str) -> None:
    """Send all records of ``level`` (debug, info, warning, error) and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # asyncio's own debug lines are about the event loop, not about this server.
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.root.level))
