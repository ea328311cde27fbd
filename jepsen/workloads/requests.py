"""The store's requests in the form of the histories, and their translation to etcd's messages."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.workloads.session import TIMEOUT_S, Answer, kv_json
from tests.kit.etcd_client import EtcdClient

TARGETS = {
    "value": rpc.Compare.VALUE,
    "version": rpc.Compare.VERSION,
    "create": rpc.Compare.CREATE,
    "mod": rpc.Compare.MOD,
    "lease": rpc.Compare.LEASE,
}
FIELDS = {"version": "version", "create": "create_revision", "mod": "mod_revision"}
RELATIONS = {
    "=": rpc.Compare.EQUAL,
    "!=": rpc.Compare.NOT_EQUAL,
    "<": rpc.Compare.LESS,
    ">": rpc.Compare.GREATER,
}


def message(op: Mapping[str, Any], **more: Any) -> Any:
    """Return an op as etcd's request message."""
    key = op["key"].encode()
    if op["op"] == "put":
        return rpc.PutRequest(
            key=key,
            value=op["value"].encode(),
            lease=op.get("lease", 0),
            prev_kv=op.get("prev_kv", False),
        )
    end = (op.get("range_end") or "").encode()
    if op["op"] == "delete":
        return rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=op.get("prev_kv", False))
    return rpc.RangeRequest(
        key=key,
        range_end=end,
        limit=op.get("limit", 0),
        revision=op.get("revision", 0),
        count_only=op.get("count_only", False),
        keys_only=op.get("keys_only", False),
        **more,
    )


def wrapped(op: Mapping[str, Any]) -> rpc.RequestOp:
    """Return an op as a part of a transaction."""
    field = {"put": "request_put", "delete": "request_delete_range", "range": "request_range"}
    return rpc.RequestOp(**{field[op["op"]]: message(op)})


def response_json(op: Mapping[str, Any], answer: Any) -> dict[str, Any]:
    """Return the answer to an op as the histories write it."""
    if op["op"] == "put":
        return {"prev_kv": kv_json(answer.prev_kv) if answer.HasField("prev_kv") else None}
    if op["op"] == "delete":
        prev_kvs = [kv_json(kv) for kv in answer.prev_kvs]
        return {"deleted": answer.deleted, "prev_kvs": prev_kvs}
    kvs = [kv_json(kv) for kv in answer.kvs]
    return {"kvs": kvs, "count": answer.count, "more": answer.more}


def ask_one(client: EtcdClient, op: Mapping[str, Any], **more: Any) -> Answer:
    """Do one op by itself."""
    method = {"put": "Put", "delete": "DeleteRange", "range": "Range"}[op["op"]]
    answer = client.call(method, message(op, **more), TIMEOUT_S)
    value = {"succeeded": True, "responses": [response_json(op, answer)]}
    return Answer(value, {"revision": answer.header.revision})


def comparison(compare: tuple[str, str, str, Any] | list[Any]) -> rpc.Compare:
    """Return a comparison as etcd's message."""
    key, target, relation, operand = compare
    operand_field = {"value": operand.encode()} if target == "value" else {FIELDS[target]: operand}
    return rpc.Compare(
        key=key.encode(), target=TARGETS[target], result=RELATIONS[relation], **operand_field
    )


def ask_txn(client: EtcdClient, txn: Mapping[str, Any]) -> Answer:
    """Do one transaction."""
    request = rpc.TxnRequest(
        compare=[comparison(each) for each in txn["compare"]],
        success=[wrapped(op) for op in txn["success"]],
        failure=[wrapped(op) for op in txn["failure"]],
    )
    answer = client.txn(request, timeout_s=TIMEOUT_S)
    ops = txn["success"] if answer.succeeded else txn["failure"]
    responses = [
        response_json(op, getattr(response, response.WhichOneof("response")))
        for op, response in zip(ops, answer.responses, strict=True)
    ]
    value = {"succeeded": answer.succeeded, "responses": responses}
    return Answer(value, {"revision": answer.header.revision})


def a_range(random: Random, keys: list[str]) -> dict[str, Any]:
    """Return a random range over some of the keys."""
    op: dict[str, Any] = {"op": "range", "key": random.choice(keys)}
    if random.random() < 0.5:
        op["range_end"] = random.choice(["\0", *keys])
        op["limit"] = random.choice([0, 0, 1, 3])
        op["count_only"] = random.random() < 0.1
        op["keys_only"] = not op["count_only"] and random.random() < 0.1
    return op
