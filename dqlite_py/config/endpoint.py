"""Addresses as URLs: TCP under HTTP or HTTPS, and sockets in the file system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dqlite_py.errors import InvalidSetting

TCP_SCHEMES = ("http", "https")
UNIX_SCHEMES = ("unix", "unixs")
ALL_SCHEMES = TCP_SCHEMES + UNIX_SCHEMES
WILDCARD_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised in order to refuse them


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address taken from a URL; ``str()`` gives the URL back.

    Of a unix socket, ``host`` is empty, ``port`` is 0 and ``path`` names the socket: all that
    follows ``unix://``, relative to the working directory unless a third slash begins it (etcd
    behaviour).
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, setting: str, url: str, schemes: Sequence[str] = ALL_SCHEMES) -> Endpoint:
        """Return the endpoint of ``url``; raise InvalidSetting naming ``setting`` if it is none."""
        scheme, separator, rest = url.partition("://")
        if separator and scheme in UNIX_SCHEMES and scheme in schemes:
            if not rest or not rest.isprintable():
                raise InvalidSetting(setting=setting, reason=f"{url!r} names no socket file")
            return cls(scheme, "", 0, rest)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidSetting(setting=setting, reason=f"{url!r} is not a URL") from None
        known = parts.scheme in TCP_SCHEMES and parts.scheme in schemes
        if not known or parts.hostname is None or port is None:
            forms = [f"{one}://host:port" for one in TCP_SCHEMES if one in schemes]
            forms += [f"{one}://path" for one in UNIX_SCHEMES if one in schemes]
            raise InvalidSetting(
                setting=setting, reason=f"{url!r} is not of the form {' or '.join(forms)}"
            )
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
            raise InvalidSetting(setting=setting, reason=f"{url!r} has more than host and port")
        return cls(parts.scheme, parts.hostname, port)

    @property
    def secure(self) -> bool:
        """Tell whether TLS is spoken there."""
        return self.scheme in {"https", "unixs"}

    @property
    def is_unix(self) -> bool:
        """Tell whether this is a socket in the file system."""
        return self.scheme in UNIX_SCHEMES

    @property
    def address(self) -> str:
        """Return ``host:port``, an IPv6 host in brackets; of a unix socket its path."""
        if self.is_unix:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"
