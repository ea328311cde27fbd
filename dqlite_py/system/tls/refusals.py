"""Handshakes under way, bounded, and failed ones as lines that an operator can act on."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

log = logging.getLogger(__name__)

LINE_INTERVAL_S = 1.0
HANDSHAKES_MAX = 256
GIVES_WAY_S = 1.0  # a handshake that takes longer makes room for others when there is none

# OpenSSL's reasons for what goes wrong in practice.
_REASONS = {
    "HTTP_REQUEST": "the other side spoke HTTP without TLS",
    "WRONG_VERSION_NUMBER": "the other side did not speak TLS",
    "UNEXPECTED_EOF_WHILE_READING": "the other side hung up",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side showed no certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the two sides have no TLS version in common",
    "UNSUPPORTED_PROTOCOL": "the two sides have no TLS version in common",
    "NO_SHARED_CIPHER": "the two sides have no cipher in common",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not trust this certificate's authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side refuses this certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the other side says that this certificate has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side asks for a client certificate",
}

TOO_MANY = "too many handshakes are under way"


def why(error: ssl.SSLError) -> str:
    """Return one line that says what OpenSSL found."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    reason = error.reason or ""
    if reason in _REASONS:
        return _REASONS[reason]
    if isinstance(error, ssl.SSLEOFError):
        return _REASONS["UNEXPECTED_EOF_WHILE_READING"]
    return reason.lower().replace("_", " ") or str(error)


class Refusals:
    """What goes wrong at one port: counts it and logs at most one line a second.

    Args:
        port: what the port is for, as in ``client`` or ``peer``.
        counted: called for each failure, for a metric.
        now_s: monotonic seconds.
        handshakes_max: handshakes not older than GIVES_WAY_S; one more is refused.
    """

    def __init__(
        self,
        port: str,
        counted: Callable[[], None] | None = None,
        now_s: Callable[[], float] = time.monotonic,
        handshakes_max: int = HANDSHAKES_MAX,
    ) -> None:
        self._port = port
        self._counted = counted
        self._now_s = now_s
        self._handshakes_max = handshakes_max
        self._next_line_s = float("-inf")
        self._untold = 0
        # When each began. Whoever hangs up or takes too long is dropped by the event loop, silently
        # and in a cycle that the collector may not look at for hours.
        self._under_way: WeakKeyDictionary[ssl.SSLObject, float] = WeakKeyDictionary()
        self.total = 0

    def admits(self, handshake: ssl.SSLObject) -> bool:
        """Tell whether a handshake may go on; one too many may not, and is noted.

        Nothing else bounds connections before their handshake is over. Slow ones are not counted
        when they are too many, so that silent strangers shut nobody out; the event loop's time
        limit ends them.
        """
        under_way = self._under_way
        if handshake in under_way:
            return True
        if len(under_way) >= self._handshakes_max:
            self._make_room()
        if len(under_way) >= self._handshakes_max:
            self.note(TOO_MANY)
            return False
        under_way[handshake] = self._now_s()
        return True

    def over(self, handshake: ssl.SSLObject) -> None:
        """It has succeeded or failed."""
        self._under_way.pop(handshake, None)

    def _make_room(self) -> None:
        oldest_s = self._now_s() - GIVES_WAY_S
        for handshake, began_s in list(self._under_way.items()):
            if began_s < oldest_s:
                self.over(handshake)

    def note(self, reason: str) -> None:
        """Take one failure; never raises."""
        self.total += 1
        if self._counted is not None:
            self._counted()
        now_s = self._now_s()
        if now_s < self._next_line_s:
            self._untold += 1
            return
        fields = {"port": self._port, "reason": reason}
        if self._untold:
            fields["more"] = str(self._untold)
        self._untold = 0
        self._next_line_s = now_s + LINE_INTERVAL_S
        log.warning("TLS handshake refused", extra=fields)
