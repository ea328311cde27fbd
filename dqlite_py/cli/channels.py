"""gRPC channels of the command line: in the clear, or under TLS as etcdctl's flags say."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import click
import grpc

from dqlite_py.errors import DqliteError
from dqlite_py.system.tls.authority import (
    NotTrusted,
    context_trusting,
    handshake,
    system_authorities,
)
from dqlite_py.system.tls.contexts import TlsFiles, client_context

UNIX_HOST = "localhost"
MAX_RESPONSE_BYTES = 2**31 - 1


class CallRefused(click.ClickException):
    """A server answered with an error or did not answer; exit code 1."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What the flags say of TLS; paths of PEM files, empty when not given."""

    cacert: str = ""
    cert: str = ""
    key: str = ""
    insecure_skip_verify: bool = False

    def __post_init__(self) -> None:
        if bool(self.cert) != bool(self.key):
            raise click.UsageError("--cert and --key belong together")

    @property
    def given(self) -> bool:
        """Tell whether TLS is meant for endpoints that do not say (etcdctl's rule)."""
        return bool(self.cacert or self.cert or self.insecure_skip_verify)

    def files(self) -> TlsFiles:
        """Return the same as paths of one side."""
        return TlsFiles(self.cert, self.key, self.cacert)


NO_TLS = ClientTls()


@dataclass(frozen=True, slots=True)
class Target:
    """One server to talk to. ``str()`` gives what is shown of it."""

    address: str  # host:port, or the path of a unix socket
    tls: ClientTls | None = None  # None: in the clear
    is_unix: bool = False

    def __str__(self) -> str:
        return self.address

    def channel(self) -> grpc.Channel:
        """Return a new channel, which the caller closes.

        Without verification the server's certificate is looked at first and then taken for its
        own authority, because grpcio always verifies. Raises CallRefused naming a file that does
        not do, or the server if it does not speak TLS.
        """
        name = f"unix:{self.address}" if self.is_unix else self.address
        options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", MAX_RESPONSE_BYTES)]
        if self.tls is None:
            return grpc.insecure_channel(name, options=options)
        files = self.tls.files()
        try:
            context = client_context(files, verify_server=not self.tls.insecure_skip_verify)
            authorities = _content(files.authorities) or system_authorities() or None
            if self.tls.insecure_skip_verify:
                authorities, host = self._look(context, files)
                options.append(("grpc.ssl_target_name_override", host))
        except DqliteError as error:
            raise CallRefused(str(error)) from None
        except (NotTrusted, OSError) as error:
            raise CallRefused(f"{self}: {error}") from None
        if self.is_unix:
            # A path is in no certificate; whoever may connect to the socket is on this machine.
            options.append(("grpc.ssl_target_name_override", UNIX_HOST))
        pair = (_content(files.key), _content(files.certificate))
        credentials = grpc.ssl_channel_credentials(authorities, *pair)
        return grpc.secure_channel(name, credentials, options=options)

    def _look(self, context: ssl.SSLContext, files: TlsFiles) -> tuple[bytes, str]:
        """Return the certificate that the server shows and a name that is in it."""
        if self.is_unix:
            raise NotTrusted("--insecure-skip-tls-verify does not work over a unix socket")
        host, _, port = self.address.rpartition(":")
        host = host.strip("[]")
        with handshake(host, int(port), context) as shown:
            der = shown.getpeercert(binary_form=True)
        assert der is not None, "a server without certificate does not speak TLS"
        pem = ssl.DER_cert_to_PEM_cert(der)
        # Only a verified certificate is shown in parts.
        trusting = context_trusting(pem, files)
        trusting.check_hostname = False
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        with handshake(host, int(port), trusting) as verified:
            return pem.encode(), _name_in(verified.getpeercert())


def _name_in(certificate: Any) -> str:
    """Return a host that this certificate is good for."""
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        if kind in {"DNS", "IP Address"}:
            return str(name).replace("*", "any", 1)
    raise NotTrusted("the server's certificate names no host")


def _content(path: str) -> bytes | None:
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()
