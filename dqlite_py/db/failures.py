"""What an error of SQLite means to us."""

from __future__ import annotations

import apsw

from dqlite_py.errors import CorruptFile, DiskFailed, DqliteError, InvariantBroken, StatementFailed

_CORRUPT = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError)
_DISK = (apsw.IOError, apsw.FullError, apsw.CantOpenError)
_LOCKS = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)


def translate(error: apsw.Error, path: str) -> DqliteError:
    """Return our error for SQLite's: StatementFailed when the request is to blame, else Fatal.

    A lock conflict is Fatal: each database has one writer, so there is nobody to conflict with.
    """
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, _CORRUPT):
        return CorruptFile(path=path, detail=detail)
    if isinstance(error, _DISK):
        return DiskFailed(path=path, detail=detail)
    if isinstance(error, _LOCKS):
        return InvariantBroken(detail=detail)
    return StatementFailed(detail=str(error))


def translate_at_open(error: apsw.Error, path: str) -> DqliteError:
    """Like ``translate`` for an error while connections are opened, when no request is to blame."""
    failure = translate(error, path)
    if isinstance(failure, StatementFailed):
        return CorruptFile(path=path, detail=f"{type(error).__name__}: {error}")
    return failure
