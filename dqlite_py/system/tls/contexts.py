"""TLS contexts made of files that may be renewed while the server runs."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dqlite_py.errors import StartRefused
from dqlite_py.system.tls.refusals import TOO_MANY, Refusals, why

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; an empty path is a file that was not given."""

    certificate: str = ""  # this side's, followed by its intermediates
    key: str = ""  # of ``certificate``, not encrypted
    authorities: str = ""  # whose certificates are accepted; none given: the system's
    revoked: str = ""  # certificate revocation lists of those authorities

    def paths(self) -> tuple[str, ...]:
        """Return the paths that were given."""
        every = (self.certificate, self.key, self.authorities, self.revoked)
        return tuple(path for path in every if path)


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """What is spoken, whatever the files.

    ``ciphers`` are OpenSSL's names for TLS 1.2, empty for OpenSSL's own choice; those of TLS 1.3
    can not be chosen.
    """

    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ciphers: tuple[str, ...] = ()

    def apply(self, context: ssl.SSLContext) -> None:
        """Set versions and ciphers; raise ssl.SSLError if OpenSSL has none of the ciphers."""
        context.minimum_version = self.min_version
        context.maximum_version = self.max_version
        if self.ciphers:
            context.set_ciphers(":".join(self.ciphers))


_NOT_HTTP_TEXT = b"Client sent an HTTP request to an HTTPS server.\n"
NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_NOT_HTTP_TEXT), _NOT_HTTP_TEXT)
)
"""The answer to HTTP without TLS; the words are those of Go's server, and so etcd's."""

DEFAULT_POLICY = TlsPolicy()


class FollowingContext(ssl.SSLContext):
    """A context whose next connection uses the files as they are when it begins.

    asyncio, uvloop and http.client ask their context for one TLS object a connection; this one
    looks at the files first and asks a context made of what they hold now. Connections that stand
    keep what they began with. Files that do not fit together, as in the middle of a renewal, leave
    the earlier context in use and are logged once. etcd reads the files on each handshake too.

    Two calls to ``stat`` or four a handshake are not worth a timer.
    """

    def __new__(cls, protocol: int, *_: Any) -> FollowingContext:
        """Make the shell that others take for the context; it has no certificate itself."""
        return super().__new__(cls, protocol)

    def __init__(
        self, protocol: int, paths: Sequence[str], build: Callable[[], ssl.SSLContext]
    ) -> None:
        """Build the first context; raises what ``build`` raises."""
        del protocol
        self._paths = tuple(paths)
        self._build = build
        self._seen = stamp(self._paths)
        self._newest = build()
        # Whoever inspects the shell (asyncio does) finds what is in force.
        self.check_hostname = self._newest.check_hostname
        self.verify_mode = self._newest.verify_mode

    def newest(self) -> ssl.SSLContext:
        """Return a context made of the files as they are now, or as they last were when whole."""
        # Taken before the files are read: what changes meanwhile is seen the next time.
        found = stamp(self._paths)
        if found != self._seen:
            self._seen = found
            try:
                self._newest = self._build()
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                reason = error.strerror if isinstance(error, ssl.SSLError) else str(error)
                log.error("changed TLS files are not used", extra={"reason": reason})
            else:
                log.info("changed TLS files are in use", extra={"files": ",".join(self._paths)})
        return self._newest

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Return the TLS object of one connection over memory buffers."""
        return self.newest().wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Return the TLS object of one connection over a socket."""
        return self.newest().wrap_socket(*args, **kwargs)


def stamp(paths: Iterable[str]) -> tuple[tuple[int, ...] | None, ...]:
    """Return what tells one version of each file from another; None for one that is not there."""
    found: list[tuple[int, ...] | None] = []
    for path in paths:
        try:
            one = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino, one.st_dev))
    return tuple(found)


def server_context(
    files: TlsFiles,
    *,
    policy: TlsPolicy = DEFAULT_POLICY,
    verify_clients: bool,
    alpn: Sequence[str] = (),
    refusals: Refusals | None = None,
) -> FollowingContext:
    """Return the context of a listening side.

    With ``verify_clients`` a client must show a certificate of ``files.authorities``, one that no
    list in ``files.revoked`` names. ``alpn`` are the protocols offered, best first; a client that
    asks for none of them is served without. ``refusals`` is told of handshakes that fail. Raises
    StartRefused naming the file that does not do.
    """

    def build() -> ssl.SSLContext:
        context = _ServingContext(ssl.PROTOCOL_TLS_SERVER)
        context.refusals = refusals
        policy.apply(context)
        # Nothing is resumed: a resumed session would skip the look at the client's certificate.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        _load_pair(context, files.certificate, files.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if verify_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            _load_authorities(context, files.authorities, ssl.Purpose.CLIENT_AUTH)
            _load_revoked(context, files.revoked)
        return context

    return _following(ssl.PROTOCOL_TLS_SERVER, files, build)


def client_context(
    files: TlsFiles,
    *,
    policy: TlsPolicy = DEFAULT_POLICY,
    verify_server: bool = True,
    alpn: Sequence[str] = (),
) -> FollowingContext:
    """Return the context of a dialling side; it shows ``files.certificate`` if there is one.

    The server's certificate must be of ``files.authorities``, the system's if none are given, and
    name the host that was dialled; without ``verify_server`` anything is accepted. Raises
    StartRefused naming the file that does not do.
    """

    def build() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        policy.apply(context)
        context.hostname_checks_common_name = False
        if files.certificate:
            _load_pair(context, files.certificate, files.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if not verify_server:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        _load_authorities(context, files.authorities, ssl.Purpose.SERVER_AUTH)
        _load_revoked(context, files.revoked)
        return context

    return _following(ssl.PROTOCOL_TLS_CLIENT, files, build)


class _ReportingObject(ssl.SSLObject):
    """One connection's TLS; tells the port's observer, and the client, how its handshake ends."""

    outgoing: ssl.MemoryBIO
    failed = ""  # why; the error itself would keep this object alive by its traceback

    def do_handshake(self) -> None:
        """Go on with the handshake; raises as its base does, perhaps one call late.

        Event loops drop what is still to be sent when this fails. So while there is something, an
        alert that says why, it asks for more instead, upon which they send; the client then hangs
        up, or has its time for handshakes.
        """
        context = self.context
        refusals = context.refusals if isinstance(context, _ServingContext) else None
        if self.failed:
            if refusals is not None:
                refusals.over(self)
            raise ssl.SSLError(self.failed)
        if refusals is not None and not refusals.admits(self):
            raise ssl.SSLError(TOO_MANY)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.failed = why(error)
            if refusals is not None:
                refusals.note(self.failed)  # event loops keep such errors to themselves
            if error.reason == "HTTP_REQUEST":
                self.outgoing.write(NOT_HTTP)
            if self.outgoing.pending:
                raise ssl.SSLWantReadError from error
            if refusals is not None:
                refusals.over(self)
            raise
        if refusals is not None:
            refusals.over(self)


class _ServingContext(ssl.SSLContext):
    """What a FollowingContext of a listening side is made of."""

    sslobject_class = _ReportingObject
    refusals: Refusals | None = None

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any
    ) -> ssl.SSLObject:
        """Return the TLS of one connection."""
        made = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(made, _ReportingObject)
        made.outgoing = outgoing
        return made


def _following(
    protocol: int, files: TlsFiles, build: Callable[[], ssl.SSLContext]
) -> FollowingContext:
    try:
        return FollowingContext(protocol, files.paths(), build)
    except ssl.SSLError as error:
        raise StartRefused(reason=f"TLS: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise StartRefused(reason=f"TLS: {error}") from error


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    def no_password() -> str:
        # Without this OpenSSL would stop the process to ask a terminal.
        raise ValueError(f"{key} is encrypted; a server needs a key without passphrase")

    for path in (certificate, key):
        _require_readable(path)
    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its key ({why(error)})"
        ) from error


def _load_authorities(context: ssl.SSLContext, path: str, purpose: ssl.Purpose) -> None:
    if not path:
        context.load_default_certs(purpose)
        return
    _require_readable(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no PEM certificates ({why(error)})") from error


def _load_revoked(context: ssl.SSLContext, path: str) -> None:
    if not path:
        return
    _require_readable(path)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"{path} holds no PEM revocation list ({why(error)})") from error
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _require_readable(path: str) -> None:
    """Raise ValueError with a line that names the file; OpenSSL's own errors do not."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
