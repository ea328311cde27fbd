"""The Lease service on a replica of one, on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dqlite_py import errors
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.lease.service import LeaseService
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.loop import run_virtual
from tests.kit.single_replica import SingleReplica


class Leases:
    """A lease service with short calls."""

    def __init__(self) -> None:
        self.machine = EtcdMachine()
        self.replica = SingleReplica(self.machine)
        self.service = LeaseService(
            self.replica,
            LeaseTables(self.replica, self.machine),
            random.Random(1),
            asyncio.get_running_loop().time,
            election_timeout_s=1.0,
        )

    async def grant(self, ttl_s: int, lease: int = 0) -> rpc.LeaseGrantResponse:
        return await self.service.grant(rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease))

    async def revoke(self, lease: int) -> rpc.LeaseRevokeResponse:
        return await self.service.revoke(rpc.LeaseRevokeRequest(ID=lease))

    async def keep_alive(self, lease: int) -> int:
        response = await self.service.keep_alive(rpc.LeaseKeepAliveRequest(ID=lease))
        assert lease == response.ID
        return response.TTL

    async def left(self, lease: int, **fields: Any) -> rpc.LeaseTimeToLiveResponse:
        request = rpc.LeaseTimeToLiveRequest(ID=lease, **fields)
        return await self.service.time_to_live(request)

    async def known(self) -> list[int]:
        response = await self.service.leases(rpc.LeaseLeasesRequest())
        return [one.ID for one in response.leases]

    async def put(self, key: bytes, lease: int) -> None:
        request = rpc.PutRequest(key=key, lease=lease)
        await self.replica.write(Command(Kind.PUT, request))

    def expiries(self) -> list[int]:
        return [c.request.ID for c in self.replica.written if c.kind is Kind.LEASE_EXPIRE]


def running(test: Callable[[Leases], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test with the service's tasks alive, on virtual time."""

    async def main() -> None:
        leases = Leases()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(leases.service.run())
            await asyncio.sleep(0.01)
            await test(leases)
            task.cancel()

    def run() -> None:
        run_virtual(main)

    run.__name__ = test.__name__
    return run


@running
async def test_a_ttl_below_the_minimum_is_raised(leases: Leases) -> None:
    assert [(await leases.grant(ttl)).TTL for ttl in (0, 1, -5, 2, 3)] == [2, 2, 2, 2, 3]


@running
async def test_a_ttl_too_large_is_refused_before_the_id_is_looked_at(leases: Leases) -> None:
    await leases.grant(9_000_000_000, 1)
    with pytest.raises(errors.LeaseTtlTooLarge):
        await leases.grant(9_000_000_001, 1)


@running
async def test_the_server_picks_a_positive_id_or_takes_the_clients(leases: Leases) -> None:
    picked = [(await leases.grant(5)).ID for _ in range(5)]
    assert len(set(picked)) == 5
    assert all(0 < lease < 1 << 63 for lease in picked)
    assert (await leases.grant(5, 77)).ID == 77
    with pytest.raises(errors.LeaseExists):
        await leases.grant(5, 77)
    assert await leases.known() == sorted([*picked, 77])


@running
async def test_granting_and_revoking_an_empty_lease_make_no_revision(leases: Leases) -> None:
    assert (await leases.grant(5, 1)).header.revision == 1
    assert (await leases.revoke(1)).header.revision == 1
    with pytest.raises(errors.LeaseNotFound):
        await leases.revoke(1)


@running
async def test_revoking_deletes_all_keys_in_one_revision_in_key_order(leases: Leases) -> None:
    await leases.grant(5, 1)
    for key in (b"c", b"a", b"b"):
        await leases.put(key, 1)
    assert (await leases.revoke(1)).header.revision == 5
    rows = leases.replica.session.execute(
        "SELECT key, id>>22 FROM revisions WHERE id&1 ORDER BY id"
    )
    assert list(rows) == [(b"a", 5), (b"b", 5), (b"c", 5)]


@running
async def test_time_to_live(leases: Leases) -> None:
    await leases.grant(10, 1)
    await leases.put(b"k", 1)
    await asyncio.sleep(3.5)
    left = await leases.left(1)
    assert (left.ID, left.TTL, left.grantedTTL, list(left.keys)) == (1, 6, 10, [])
    assert left.header.revision == 2
    assert list((await leases.left(1, keys=True)).keys) == [b"k"]
    absent = await leases.left(9, keys=True)
    assert (absent.ID, absent.TTL, absent.grantedTTL) == (9, -1, 0)


@running
async def test_keeping_alive_renews(leases: Leases) -> None:
    await leases.grant(5, 1)
    for _ in range(10):
        await asyncio.sleep(4)
        assert await leases.keep_alive(1) == 5
    assert await leases.known() == [1]
    assert leases.expiries() == []


@running
async def test_an_unknown_lease_keeps_alive_with_zero(leases: Leases) -> None:
    assert await leases.keep_alive(9) == 0


@running
async def test_an_unrenewed_lease_expires_with_its_keys_and_not_early(leases: Leases) -> None:
    await leases.grant(5, 1)
    await leases.put(b"k", 1)
    await asyncio.sleep(4.9)
    assert await leases.known() == [1]
    await asyncio.sleep(1.0)
    assert await leases.known() == []
    assert leases.machine.revision == 3
    assert (await leases.left(1)).TTL == -1


@running
async def test_once_expired_a_keepalive_waits_for_the_revoke_and_gets_zero(leases: Leases) -> None:
    await leases.grant(5, 1)
    leases.replica.fail_writes = errors.RequestTimeout()
    await asyncio.sleep(5.2)
    waiting = asyncio.ensure_future(leases.keep_alive(1))
    await asyncio.sleep(1.5)
    assert not waiting.done()
    leases.replica.fail_writes = None
    assert await waiting == 0
    assert await leases.known() == []


@running
async def test_a_new_leader_grants_full_ttl_and_an_election_timeout(leases: Leases) -> None:
    await leases.grant(5, 1)
    await asyncio.sleep(4)
    leases.replica.lose_leadership()
    await asyncio.sleep(60)
    leases.replica.gain_leadership()
    await asyncio.sleep(0.01)
    assert await leases.known() == [1]
    assert (await leases.left(1)).TTL == 5
    await asyncio.sleep(5.9)
    assert await leases.known() == [1]
    await asyncio.sleep(0.7)
    assert await leases.known() == []


@running
async def test_whoever_waits_for_a_revoke_asks_the_next_leader(leases: Leases) -> None:
    await leases.grant(5, 1)
    leases.replica.fail_writes = errors.RequestTimeout()
    await asyncio.sleep(5.2)
    waiting = asyncio.ensure_future(leases.keep_alive(1))
    await asyncio.sleep(0.1)
    leases.replica.lose_leadership()
    leases.replica.fail_writes = None
    await asyncio.sleep(0.5)
    leases.replica.gain_leadership()
    assert await waiting == 5


@running
async def test_without_any_leader_a_keepalive_times_out(leases: Leases) -> None:
    await leases.grant(5, 1)
    leases.replica.lose_leadership()
    with pytest.raises(errors.RequestTimeout):
        await leases.keep_alive(1)


@running
async def test_a_leader_that_can_not_confirm_itself_revokes_nothing(leases: Leases) -> None:
    await leases.grant(5, 1)
    leases.replica.fail_barriers = errors.RequestTimeout()
    await asyncio.sleep(30)
    assert leases.expiries() == []
    leases.replica.fail_barriers = None
    await asyncio.sleep(4)
    assert leases.expiries() == [1]


@running
async def test_an_expiry_ordered_under_an_earlier_leadership_does_nothing(leases: Leases) -> None:
    """The command may wait out an election and run when the lease has been renewed elsewhere."""
    await leases.grant(5, 1)
    await asyncio.sleep(4.9)
    write, held = leases.replica.write, asyncio.Event()

    async def write_late(command: Any) -> Any:
        if command.kind is Kind.LEASE_EXPIRE:
            await held.wait()
        return await write(command)

    leases.replica.write = write_late  # type: ignore[method-assign]
    await asyncio.sleep(1)
    leases.replica.lose_leadership()
    leases.replica.gain_leadership()
    held.set()
    await asyncio.sleep(0.1)
    assert leases.expiries() == [1]
    assert await leases.known() == [1]
    assert (await leases.left(1)).TTL == 5


@running
async def test_an_expiry_is_never_forwarded(leases: Leases) -> None:
    command = Command(Kind.LEASE_EXPIRE, rpc.LeaseRevokeRequest(ID=1), lambda: True)
    with pytest.raises(errors.LeaderChanged):
        leases.machine.encode_command(command)


@running
async def test_more_changes_than_a_note_holds_are_read_from_the_table(leases: Leases) -> None:
    grants = [
        Command(Kind.LEASE_GRANT, rpc.LeaseGrantRequest(ID=lease, TTL=5)) for lease in range(1, 101)
    ]
    leases.replica.write_batch(grants)
    await asyncio.sleep(0.01)
    assert (await leases.left(100)).TTL == 4
    await asyncio.sleep(6)
    assert await leases.known() == []


@running
async def test_the_keepalive_header_is_taken_before_the_renewal(leases: Leases) -> None:
    await leases.grant(5, 1)
    await leases.put(b"k", 1)
    response = await leases.service.keep_alive(rpc.LeaseKeepAliveRequest(ID=1))
    assert response.header.revision == 2
