"""Which method each path of etcd's JSON gateway calls. A new service needs its lines here only."""

from __future__ import annotations

from collections.abc import Mapping

_BY_SERVICE: Mapping[str, Mapping[str, str]] = {
    "etcdserverpb.KV": {
        "kv/range": "Range",
        "kv/put": "Put",
        "kv/deleterange": "DeleteRange",
        "kv/txn": "Txn",
        "kv/compaction": "Compact",
    },
    "etcdserverpb.Watch": {"watch": "Watch"},
    "etcdserverpb.Lease": {
        "lease/grant": "LeaseGrant",
        "lease/revoke": "LeaseRevoke",
        "kv/lease/revoke": "LeaseRevoke",
        "lease/keepalive": "LeaseKeepAlive",
        "lease/timetolive": "LeaseTimeToLive",
        "kv/lease/timetolive": "LeaseTimeToLive",
        "lease/leases": "LeaseLeases",
        "kv/lease/leases": "LeaseLeases",
    },
    "etcdserverpb.Cluster": {
        "cluster/member/add": "MemberAdd",
        "cluster/member/remove": "MemberRemove",
        "cluster/member/update": "MemberUpdate",
        "cluster/member/list": "MemberList",
        "cluster/member/promote": "MemberPromote",
    },
    "etcdserverpb.Maintenance": {
        "maintenance/alarm": "Alarm",
        "maintenance/status": "Status",
        "maintenance/defragment": "Defragment",
        "maintenance/hash": "Hash",
        "maintenance/hashkv": "HashKV",
        "maintenance/snapshot": "Snapshot",
        "maintenance/transfer-leadership": "MoveLeader",
        "maintenance/downgrade": "Downgrade",
    },
    "etcdserverpb.Auth": {
        "auth/enable": "AuthEnable",
        "auth/disable": "AuthDisable",
        "auth/status": "AuthStatus",
        "auth/authenticate": "Authenticate",
        "auth/user/add": "UserAdd",
        "auth/user/get": "UserGet",
        "auth/user/list": "UserList",
        "auth/user/delete": "UserDelete",
        "auth/user/changepw": "UserChangePassword",
        "auth/user/grant": "UserGrantRole",
        "auth/user/revoke": "UserRevokeRole",
        "auth/role/add": "RoleAdd",
        "auth/role/get": "RoleGet",
        "auth/role/list": "RoleList",
        "auth/role/delete": "RoleDelete",
        "auth/role/grant": "RoleGrantPermission",
        "auth/role/revoke": "RoleRevokePermission",
    },
    "v3lockpb.Lock": {"lock/lock": "Lock", "lock/unlock": "Unlock"},
    "v3electionpb.Election": {
        "election/campaign": "Campaign",
        "election/proclaim": "Proclaim",
        "election/leader": "Leader",
        "election/observe": "Observe",
        "election/resign": "Resign",
    },
}

PREFIX = "/v3/"
OLD_PREFIX = "/v3beta/"  # served as PREFIX; /v3alpha/ is gone from etcd

# Path to method path. A method that the server's table does not have is UNIMPLEMENTED.
METHODS: Mapping[str, str] = {
    PREFIX + path: f"/{service}/{method}"
    for service, methods in _BY_SERVICE.items()
    for path, method in methods.items()
}
