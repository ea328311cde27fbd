"""The one exception tree. Data lives in fields; texts for clients live in ``api.status``.

Three questions decide where a class stands: may the request have happened (``OutcomeUnknown``),
is it the caller's fault (``RequestRefused``), must the process stop (``Fatal``).
"""

from __future__ import annotations

from typing import Any, ClassVar


class DqliteError(Exception):
    """Root of all errors of this package.

    ``FIELDS`` names the constructor's keyword arguments, kept as attributes, so that an error can
    travel between members and be rebuilt with the same class and data.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()
    registry: ClassVar[dict[str, type[DqliteError]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        DqliteError.registry[cls.__name__] = cls

    def __init__(self, **fields: Any) -> None:
        assert set(fields) == set(self.FIELDS), (type(self).__name__, fields)
        for name, value in fields.items():
            setattr(self, name, value)
        super().__init__(fields)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS)
        return f"{type(self).__name__}({shown})"


def to_wire(error: DqliteError) -> list[Any]:
    """Return ``[class name, [field values]]`` for sending to another member."""
    return [type(error).__name__, [getattr(error, name) for name in error.FIELDS]]


def from_wire(data: list[Any]) -> DqliteError:
    """Rebuild an error sent by ``to_wire``; an unknown class becomes ``PeerFailed``."""
    cls = DqliteError.registry.get(data[0])
    if cls is None or len(cls.FIELDS) != len(data[1]):
        return PeerFailed(detail=str(data[0]))
    return cls(**dict(zip(cls.FIELDS, data[1], strict=True)))


# --- the process must stop ---------------------------------------------------------------------
class Fatal(DqliteError):
    """The replica must stop and say so: its disk or its own invariants can not be trusted."""


class CorruptFile(Fatal):
    """A file is damaged in a way that a crash can not explain. The operator must act."""

    FIELDS = ("path", "detail")
    path: str
    detail: str


class DamagedTail(CorruptFile):
    """The log's last batch, above the recorded sync watermark, is damaged but not merely torn.

    It may have been acknowledged, and it may have held a vote: the member must not start.
    """


class NewerFormat(Fatal):
    """A file was written by a newer version of this program."""

    FIELDS = ("path", "found", "supported")


class DiskFailed(Fatal):
    """The operating system reported an error while reading or writing; nothing after it is safe."""

    FIELDS = ("path", "detail")


class InvariantBroken(Fatal):
    """The program contradicts itself; going on could lose data."""

    FIELDS = ("detail",)


class StartRefused(DqliteError):
    """The server does not start; ``reason`` is one line saying why and what to do."""

    FIELDS = ("reason",)
    reason: str


class DataDirInUse(StartRefused):
    """Another process holds the data directory's lock."""


class InvalidSetting(DqliteError):
    """A setting of the command line, the environment or the configuration file is wrong."""

    FIELDS = ("setting", "reason")
    setting: str
    reason: str


class MalformedJson(DqliteError):
    """The text is no JSON, or not that of the message it stands for; ``reason`` says where.

    Only the JSON gateway meets it, before there is a request.
    """

    FIELDS = ("reason",)
    reason: str


# --- the request may or may not have happened --------------------------------------------------
class OutcomeUnknown(DqliteError):
    """The request may happen, or have happened; only the caller can decide whether to repeat it."""


class LeaderChanged(OutcomeUnknown):
    """Leadership moved while the request was under way."""


class RequestTimeout(OutcomeUnknown):
    """No answer within the server's own limit."""


class ConnectionLost(OutcomeUnknown):
    """The connection to the leader broke after the request had been sent."""


class ServerStopped(OutcomeUnknown):
    """This server is shutting down."""


class PeerFailed(OutcomeUnknown):
    """The other member answered with an error this version does not know."""

    FIELDS = ("detail",)


class SnapshotDamaged(OutcomeUnknown):
    """A snapshot arrived with other bytes than its sender once read; it must be made anew."""

    FIELDS = ("detail",)


# --- the request certainly did not happen ------------------------------------------------------
class RequestRefused(DqliteError):
    """The request had no effect."""


class NoLeader(RequestRefused):
    """No leader is known; the request was not sent anywhere."""


class NotLeader(RequestRefused):
    """The operation must be sent to the leader."""


class TooManyRequests(RequestRefused):
    """A bounded queue is full."""


class RequestTooLarge(RequestRefused):
    """The request, or the pages it would change, exceed the limit."""


class BatchTooLarge(RequestRefused):
    """Requests executed together change more pages than one entry may hold; try fewer at once."""


class StatementFailed(RequestRefused):
    """SQLite refused a statement of the request; ``detail`` is its message."""

    FIELDS = ("detail",)


class EmptyKey(RequestRefused):
    """A key is required."""


class KeyNotFound(RequestRefused):
    """ignore_value or ignore_lease on an absent key, or an operation without a request."""


class ValueProvided(RequestRefused):
    """ignore_value together with a value."""


class LeaseProvided(RequestRefused):
    """ignore_lease together with a lease."""


class TooManyOps(RequestRefused):
    """More operations in a transaction than allowed."""


class DuplicateKey(RequestRefused):
    """One transaction would put a key twice, or put and delete it."""


class InvalidSortOption(RequestRefused):
    """Unknown sort order or target."""


class InvalidClientApiVersion(RequestRefused):
    """The client-api-version metadata is not valid text."""


class Compacted(RequestRefused):
    """The revision asked for has been compacted."""


class FutureRevision(RequestRefused):
    """The revision asked for does not exist yet."""


class NoSpace(RequestRefused):
    """The database quota is used up."""


class LeaseNotFound(RequestRefused):
    """No such lease."""


class LeaseExists(RequestRefused):
    """The lease id is taken."""


class LeaseTtlTooLarge(RequestRefused):
    """TTL above nine billion seconds."""


class MemberNotFound(RequestRefused):
    """No such member."""


class MemberExists(RequestRefused):
    """The member id is taken."""


class PeerUrlExists(RequestRefused):
    """Another member has this peer URL."""


class MemberBadUrls(RequestRefused):
    """Peer URLs that are not URLs."""


class MemberNotEnoughStarted(RequestRefused):
    """The change would leave the started voters without quorum."""


class MemberNotLearner(RequestRefused):
    """Only a learner can be promoted."""


class LearnerNotReady(RequestRefused):
    """The learner has not caught up."""


class TooManyLearners(RequestRefused):
    """The cluster has as many learners as it may have."""


class UnhealthyCluster(RequestRefused):
    """Too few members are reachable for this change."""


class ConfChangeInProgress(RequestRefused):
    """Another membership change has not finished."""


class BadLeaderTransferee(RequestRefused):
    """The transfer target is not a voter."""


class UnknownService(RequestRefused):
    """The health of a service that this server does not have was asked for."""


class NotSupportedForLearner(RequestRefused):
    """A learner does not serve this request."""


class NotCapable(RequestRefused):
    """This member's version does not know the request."""


class CorruptCluster(RequestRefused):
    """The CORRUPT alarm is raised."""


class ClusterIdMismatch(RequestRefused):
    """The peer belongs to another cluster."""


class PeerUnreachable(RequestRefused):
    """No connection to the peer, and nothing was sent."""


class AuthenticationFailed(RequestRefused):
    """The other side does not know the cluster's secret."""

    FIELDS = ("detail",)
    detail: str


class ReadInterrupted(DqliteError):
    """A read was interrupted by a rollback or a checkpoint and may be run again."""


class ReadersBusy(DqliteError):
    """Readers or a checkpoint are still at work; they have been interrupted: try again soon."""
