"""What arrives from other members, given to the right part (transport.contract.PeerHandler)."""

from __future__ import annotations

from typing import Any

from dqlite_py.node.parts import Parts
from dqlite_py.raft import (
    LocalMessage,
    Message,
    MessageKind,
    PeerNotFound,
    ProposalDropped,
)
from dqlite_py.transport.contract import CallAnswer


class PeerPort:
    """Told by the transport, on the event loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def on_message(self, message: Message) -> None:
        """A Raft message arrived."""
        if message.kind is MessageKind.SNAP and not self._parts.sink.accepts(message):
            return  # its files are not here (any more); the leader will offer them again
        if message.kind is MessageKind.PROP:
            return  # page images are valid only on their proposer's log: never forwarded (rule 1)
        try:
            self._parts.driver.step(message)
            if message.kind is MessageKind.SNAP:
                # From here to its installation the files that arrived must stay as they are.
                self._parts.sink.busy = self._parts.raw.has_unstable_snapshot
        except (LocalMessage, PeerNotFound, ProposalDropped) as error:
            # From a member that is no longer, or not yet, one of us.
            self._report("message ignored", peer=f"{message.from_:x}", reason=str(error))

    def on_call(self, from_id: int, method: str, payload: bytes) -> CallAnswer:
        """Another member asks something; the transport has authenticated it."""
        del from_id
        return self._parts.router.serve(method, payload)

    def on_unreachable(self, member_id: int) -> None:
        """Messages to this member were lost: probe instead of streaming to it."""
        self._parts.raw.report_unreachable(member_id)
        self._parts.driver.kick()

    def on_connected(self, member_id: int) -> None:
        """The connection to this member stands."""
        self._report("peer connected", peer=f"{member_id:x}")

    def on_disconnected(self, member_id: int, reason: str) -> None:
        """The connection to this member is gone."""
        self._report("peer disconnected", peer=f"{member_id:x}", reason=reason)

    def on_rejected(self, address: str, reason: str) -> None:
        """Somebody was turned away."""
        self._report("peer rejected", address=address, reason=reason)

    def on_error(self, error: BaseException) -> None:
        """A handler failed in a way it should not: this program contradicts itself."""
        self._parts.tasks.fail(error)

    def _report(self, event: str, **fields: Any) -> None:
        self._parts.settings.report(event, fields)
