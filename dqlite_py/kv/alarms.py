"""Alarms: facts about members that the whole cluster acts on."""

from __future__ import annotations

from dqlite_py.node.contract import Session
from dqlite_py.pb import rpc_pb2

Alarms = frozenset[tuple[int, int]]  # (member id, alarm type)
MOST = 30  # more than two kinds for each of a large cluster's members


def load(session: Session) -> Alarms:
    """Return all raised alarms."""
    rows = session.execute("SELECT member_id, alarm FROM alarms")
    return frozenset((int.from_bytes(row[0], "big"), row[1]) for row in rows)


def change(
    session: Session, raised: Alarms, request: rpc_pb2.AlarmRequest
) -> tuple[Alarms, Alarms]:
    """Raise or clear one alarm; return what is raised afterwards, and what to answer.

    The answer is the alarm raised, even if it was already, or the one cleared (etcd behaviour). A
    type of NONE changes nothing, nor does raising more than ``MOST``.
    """
    wanted = (request.memberID, int(request.alarm))
    bindings = (wanted[0].to_bytes(8, "big"), wanted[1])
    if request.alarm == rpc_pb2.NONE:
        return raised, frozenset()
    if request.action == rpc_pb2.AlarmRequest.ACTIVATE and len(raised) < MOST:
        list(session.execute("INSERT OR IGNORE INTO alarms VALUES(?, ?)", bindings))
        return raised | {wanted}, frozenset({wanted})
    if request.action == rpc_pb2.AlarmRequest.DEACTIVATE:
        list(session.execute("DELETE FROM alarms WHERE member_id=? AND alarm=?", bindings))
        return raised - {wanted}, raised & {wanted}
    return raised, frozenset()


def messages(raised: Alarms) -> list[rpc_pb2.AlarmMember]:
    """Return alarms as the API's messages, ordered by member and type."""
    return [rpc_pb2.AlarmMember(memberID=member, alarm=alarm) for member, alarm in sorted(raised)]  # type: ignore[arg-type]
