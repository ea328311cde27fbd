"""The one table from errors to gRPC status codes and etcd's exact texts.

Clients compare the text as well as the code. UNAVAILABLE means to a client that the outcome is
unknown, so a request that certainly had no effect gets it only where etcd itself does so.
"""

from __future__ import annotations

from dqlite_py import errors
from dqlite_py.http.grpc.status import Code

__all__ = ["INTERNAL", "STATUS", "Code", "status_of"]

STATUS: dict[type[errors.DqliteError], tuple[Code, str]] = {
    # the outcome is unknown
    errors.OutcomeUnknown: (Code.UNAVAILABLE, "etcdserver: request timed out"),
    errors.LeaderChanged: (Code.UNAVAILABLE, "etcdserver: leader changed"),
    errors.RequestTimeout: (Code.UNAVAILABLE, "etcdserver: request timed out"),
    errors.ConnectionLost: (
        Code.UNAVAILABLE,
        "etcdserver: request timed out, possibly due to connection lost",
    ),
    errors.ServerStopped: (Code.UNAVAILABLE, "etcdserver: server stopped"),
    errors.PeerFailed: (Code.UNAVAILABLE, "etcdserver: request timed out"),
    # the cluster can not serve now
    errors.NoLeader: (Code.UNAVAILABLE, "etcdserver: no leader"),
    errors.PeerUnreachable: (Code.UNAVAILABLE, "etcdserver: no leader"),
    errors.ReadInterrupted: (Code.UNAVAILABLE, "etcdserver: request timed out"),
    errors.NotLeader: (Code.FAILED_PRECONDITION, "etcdserver: not leader"),
    errors.TooManyRequests: (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    errors.NoSpace: (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    errors.CorruptCluster: (Code.DATA_LOSS, "etcdserver: corrupt cluster"),
    errors.NotCapable: (Code.FAILED_PRECONDITION, "etcdserver: not capable"),
    errors.NotSupportedForLearner: (
        Code.FAILED_PRECONDITION,
        "etcdserver: rpc not supported for learner",
    ),
    # keys and transactions
    errors.RequestTooLarge: (Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
    errors.BatchTooLarge: (Code.INVALID_ARGUMENT, "etcdserver: request is too large"),
    errors.EmptyKey: (Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    errors.KeyNotFound: (Code.INVALID_ARGUMENT, "etcdserver: key not found"),
    errors.ValueProvided: (Code.INVALID_ARGUMENT, "etcdserver: value is provided"),
    errors.LeaseProvided: (Code.INVALID_ARGUMENT, "etcdserver: lease is provided"),
    errors.TooManyOps: (
        Code.INVALID_ARGUMENT,
        "etcdserver: too many operations in txn request",
    ),
    errors.DuplicateKey: (
        Code.INVALID_ARGUMENT,
        "etcdserver: duplicate key given in txn request",
    ),
    errors.InvalidSortOption: (Code.INVALID_ARGUMENT, "etcdserver: invalid sort option"),
    errors.InvalidClientApiVersion: (
        Code.INVALID_ARGUMENT,
        "etcdserver: invalid client api version",
    ),
    errors.Compacted: (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision has been compacted",
    ),
    errors.FutureRevision: (
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    # leases
    errors.LeaseNotFound: (Code.NOT_FOUND, "etcdserver: requested lease not found"),
    errors.LeaseExists: (Code.FAILED_PRECONDITION, "etcdserver: lease already exists"),
    errors.LeaseTtlTooLarge: (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL"),
    # members
    errors.MemberNotFound: (Code.NOT_FOUND, "etcdserver: member not found"),
    errors.MemberExists: (Code.FAILED_PRECONDITION, "etcdserver: member ID already exist"),
    errors.PeerUrlExists: (Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"),
    errors.MemberBadUrls: (
        Code.INVALID_ARGUMENT,
        "etcdserver: given member URLs are invalid",
    ),
    errors.MemberNotEnoughStarted: (
        Code.FAILED_PRECONDITION,
        "etcdserver: re-configuration failed due to not enough started members",
    ),
    errors.MemberNotLearner: (
        Code.FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member",
    ),
    errors.LearnerNotReady: (
        Code.FAILED_PRECONDITION,
        "etcdserver: can only promote a learner member which is in sync with leader",
    ),
    errors.TooManyLearners: (
        Code.FAILED_PRECONDITION,
        "etcdserver: too many learner members in cluster",
    ),
    errors.UnhealthyCluster: (Code.UNAVAILABLE, "etcdserver: unhealthy cluster"),
    errors.ConfChangeInProgress: (
        Code.FAILED_PRECONDITION,
        "etcdserver: another re-configuration is in progress",
    ),
    errors.BadLeaderTransferee: (
        Code.FAILED_PRECONDITION,
        "etcdserver: bad leader transferee",
    ),
    errors.ClusterIdMismatch: (Code.FAILED_PRECONDITION, "etcdserver: cluster ID mismatch"),
    # health checks and joining
    errors.UnknownService: (Code.NOT_FOUND, "unknown service"),
    errors.AuthenticationFailed: (Code.UNAUTHENTICATED, "dqlite: authentication failed"),
}

INTERNAL = (Code.INTERNAL, "internal error")


def status_of(error: BaseException) -> tuple[Code, str]:
    """Return the code and text for an error raised by a handler.

    The nearest class in the table decides; an error that has none is INTERNAL and its details are
    not told to the client.
    """
    for cls in type(error).__mro__:
        found = STATUS.get(cls)
        if found is not None:
            return found
    return INTERNAL
