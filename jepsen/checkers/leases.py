"""Leases: a key lives as long as its lease, which lives as long as it is renewed.

Never too short: whoever is told that a lease was granted or renewed is promised a full TTL from
the moment at which the store acted, which is not before the moment of asking. So no sign of the
end (a key gone, a renewal answered with TTL 0) may come within a TTL of *asking* for any renewal
that was acknowledged, unless the lease was revoked.

Not forever: a TTL after the last renewal or grant that may have happened, and some time more, the
keys must be gone. A new leader may give every lease its TTL again, so time begins anew when a
fault ends; other elections are covered by ``late_s``.

And at once: no revision has one key of a lease without the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jepsen.checkers.result import Result, describe, ended_before
from jepsen.history import INFO, NEMESIS, OK, Event, Operation

SECOND_NS = 1_000_000_000
LATE_S = 10.0


@dataclass
class _Lease:
    id: str
    ttl_s: float = 0.0
    grant: Operation | None = None
    renewals: list[Operation] = field(default_factory=list)
    attempts: list[Operation] = field(default_factory=list)
    revokes: list[Operation] = field(default_factory=list)
    puts: dict[str, Operation] = field(default_factory=dict)
    alive: list[Operation] = field(default_factory=list)
    gone: list[Operation] = field(default_factory=list)


def check_leases(
    operations: Sequence[Operation],
    events: Iterable[Event] = (),
    *,
    early_s: float = 0.0,
    late_s: float = LATE_S,
) -> Result:
    """Check every lease of a lease workload.

    ``events`` is the whole history, which tells when faults ended. ``early_s`` forgives clocks
    that a fault made run faster; ``late_s`` is how long a lease may outlive its TTL.
    """
    began_s = time.monotonic()
    result = Result("lease")
    result.operations = sum(1 for each in operations if each.is_ok)
    faults_ns = [
        event.time_ns for event in events if event.process == NEMESIS and event.type == INFO
    ]
    leases = _gather(operations)
    result.stats["leases"] = len(leases)
    for lease in leases.values():
        _check_grant(result, lease)
        _check_early(result, lease, early_s)
        _check_late(result, lease, faults_ns, late_s)
        _check_revoked(result, lease)
        _check_together(result, lease)
    result.stats["seen_gone"] = sum(1 for lease in leases.values() if lease.gone)
    result.seconds = time.monotonic() - began_s
    return result


def _gather(operations: Sequence[Operation]) -> dict[str, _Lease]:
    leases: dict[str, _Lease] = {}
    owner: dict[str, _Lease] = {}
    for each in operations:
        if each.f == "observe" or not each.may_have_happened:
            continue
        request: dict[str, Any] = each.request
        lease = leases.setdefault(str(request["id"]), _Lease(str(request["id"])))
        if each.f == "grant":
            lease.grant = each
            lease.ttl_s = each.answer["ttl_s"] if each.is_ok else request["ttl_s"]
            (lease.renewals if each.is_ok else lease.attempts).append(each)
        elif each.f == "keepalive":
            if not each.is_ok:
                lease.attempts.append(each)
            elif each.answer["ttl_s"] > 0:
                lease.renewals.append(each)
            else:
                lease.gone.append(each)
        elif each.f == "revoke":
            lease.revokes.append(each)
        elif each.f == "put" and each.key is not None:
            lease.puts[each.key] = each
            owner[each.key] = lease
            if each.is_ok:
                # A key can be put only on a lease that is alive.
                lease.alive.append(each)
    for each in operations:
        if each.f == "observe" and each.is_ok and each.key in owner and not each.serializable:
            lease = owner[each.key]
            if each.answer is not None:
                lease.alive.append(each)
            elif ended_before(lease.puts[each.key], each) and lease.puts[each.key].is_ok:
                lease.gone.append(each)
    return leases


def _asked_ns(operation: Operation) -> int:
    return operation.invocation.time_ns


def _told_ns(operation: Operation) -> int:
    completion = operation.completion
    return operation.invocation.time_ns if completion is None else completion.time_ns


def _check_grant(result: Result, lease: _Lease) -> None:
    grant = lease.grant
    if grant is not None and grant.type == OK and grant.answer["ttl_s"] < grant.request["ttl_s"]:
        result.add("granted for less", describe(grant), grant)


def _check_early(result: Result, lease: _Lease, early_s: float) -> None:
    for sign in lease.gone:
        if any(revoke.start < sign.end for revoke in lease.revokes):
            continue
        for renewal in lease.renewals:
            promised_ns = _asked_ns(renewal) + int((lease.ttl_s - early_s) * SECOND_NS)
            if _told_ns(sign) >= promised_ns:
                continue
            kind = "revived" if ended_before(sign, renewal) else "expired early"
            text = f"{describe(sign)} although {describe(renewal)} promised {lease.ttl_s} s"
            result.add(kind, text, renewal, sign)
            break


def _check_late(result: Result, lease: _Lease, faults_ns: Sequence[int], late_s: float) -> None:
    acts = [*lease.renewals, *lease.attempts]
    if not acts:
        return
    span_ns = int((lease.ttl_s + late_s) * SECOND_NS)
    last_ns = max(_told_ns(each) for each in acts)
    for fault_ns in sorted(faults_ns):
        if last_ns < fault_ns <= last_ns + span_ns:
            last_ns = fault_ns
    looks = [each for each in (*lease.alive, *lease.gone) if _asked_ns(each) > last_ns + span_ns]
    result.stats["looked_late"] = result.stats.get("looked_late", 0) + len(looks)
    for sight in lease.alive:
        if _asked_ns(sight) > last_ns + span_ns:
            over_s = (_asked_ns(sight) - last_ns) / SECOND_NS - lease.ttl_s
            text = f"{describe(sight)}, {over_s:.1f} s after the TTL of its lease"
            result.add("kept past expiry", text, max(acts, key=_told_ns), sight)


def _check_revoked(result: Result, lease: _Lease) -> None:
    done = [revoke for revoke in lease.revokes if revoke.is_ok]
    for revoke in done[:1]:
        for each in (*lease.alive, *lease.renewals):
            if ended_before(revoke, each):
                text = f"{describe(each)} after {describe(revoke)}"
                result.add("alive after revoke", text, revoke, each)


def _check_together(result: Result, lease: _Lease) -> None:
    """All keys of a lease go in one revision, and for good."""
    gone = [each for each in lease.gone if each.f == "observe" and each.revision is not None]
    if not gone:
        return
    first = min(gone, key=lambda each: each.revision or 0)
    for sight in lease.alive:
        if sight.revision is not None and sight.revision >= (first.revision or 0):
            text = f"{describe(first)} but {describe(sight)}"
            result.add("torn expiry", text, first, sight)
