"""Composition root: settings in, running server out. Builds and connects; decides nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from random import SystemRandom
from typing import Any

from dqlite_py.api import (
    cluster,
    dqlite_v1,
    figures,
    health,
    kv,
    lease,
    maintenance,
    watch,
)
from dqlite_py.api.admission import Admission
from dqlite_py.api.gateway import Gateway
from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.http import HttpServer
from dqlite_py.api.pages import Pages
from dqlite_py.api.routes import Route, table
from dqlite_py.api.serving import REQUEST_OVERHEAD_BYTES, ClientServer, Observers
from dqlite_py.api.status import Code
from dqlite_py.api.web import ANY_ORIGIN, WebApp
from dqlite_py.cluster import ids
from dqlite_py.cluster.join_service import JoinService
from dqlite_py.cluster.promotion import Promoter
from dqlite_py.config import Endpoint, ServerConfig
from dqlite_py.errors import DqliteError, MemberNotFound, StartRefused
from dqlite_py.kv.compactor import Compactor
from dqlite_py.kv.history import History
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.service import KvService
from dqlite_py.lease.service import LeaseService
from dqlite_py.metrics import CONTENT_TYPE, Metrics
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.parts import ReplicaSettings, World
from dqlite_py.node.replica import Replica
from dqlite_py.node.wiring import assemble
from dqlite_py.pb import admin_pb2
from dqlite_py.setup import Home, settle
from dqlite_py.system.clock import SystemClock
from dqlite_py.system.disk import OsDisk
from dqlite_py.system.network import TcpNetwork
from dqlite_py.system.threads import ThreadWorkers
from dqlite_py.system.timed_disk import TimedDisk
from dqlite_py.watch.hub import WatchHub, WatchLimits

log = logging.getLogger(__name__)

STOP_GRACE_S = 1.0
HAND_OVER_S = 2.0
STOP_LIMIT_S = 4.0  # within the 5 s that a stop may take
THREAD_JOIN_S = 2.0
PUBLISH_RETRY_S = 0.1
REMOVED = "the member has been permanently removed from the cluster"


async def serve(config: ServerConfig) -> int:
    """Run a server until it is told to stop; return the exit code.

    SIGTERM and SIGINT end it: leadership is handed over, calls under way get a moment, nothing is
    lost. Raises StartRefused and its kin when it can not start, Fatal when it must not go on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    disk = TimedDisk(f"{config.member.data_dir}/raft", metrics.wal_fsync_s.observe)
    serving = asyncio.ensure_future(_settle_and_run(config, disk, metrics, stop))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            # Joining or replaying may take long and does not look at ``stop``.
            await asyncio.wait([serving], timeout=STOP_LIMIT_S)
        if not serving.done():
            serving.cancel()
            await asyncio.wait([serving])
        return 0 if serving.cancelled() else serving.result()
    finally:
        stopping.cancel()


async def _settle_and_run(
    config: ServerConfig, disk: TimedDisk, metrics: Metrics, stop: asyncio.Event
) -> int:
    home = await settle(config, disk, metrics.tls_refused)
    workers = ThreadWorkers(asyncio.get_running_loop())
    try:
        server = await Server.build(config, home, workers, disk, metrics)
        return await server.run(stop)
    finally:
        workers.close()
        await asyncio.to_thread(workers.join, THREAD_JOIN_S)
        home.datadir.close()


class Server:
    """All parts of one server process."""

    def __init__(
        self, config: ServerConfig, home: Home, replica: Replica, metrics: Metrics
    ) -> None:
        self._config = config
        self._home = home
        self.replica = replica
        self._metrics = metrics

    @classmethod
    async def build(
        cls,
        config: ServerConfig,
        home: Home,
        workers: ThreadWorkers,
        disk: OsDisk,
        metrics: Metrics,
    ) -> Server:
        """Open the replica and build the services on it."""
        machine = EtcdMachine()
        clock = SystemClock()
        random = SystemRandom()
        raft = config.raft
        limits = ReplicaLimits(
            tick_interval_s=raft.heartbeat_interval_ms / 1000,
            election_ticks=raft.election_ticks,
            checkpoint_entries=raft.snapshot_count,
            catch_up_entries=raft.snapshot_count // 2,
        )
        settings = ReplicaSettings(
            secret=home.token.key,
            listen_addresses=config.member.listen_peer_urls,
            make_member_id=ids.added_member_id,
            limits=limits,
            report=_report,
        )
        world = World(clock, workers, disk, TcpNetwork(home.security.peers), random)
        replica = Replica(await assemble(home.datadir, machine, world, settings))
        server = cls(config, home, replica, metrics)
        server._build_services(machine, clock, random, limits)
        server._build_clients(machine, server._routes(machine, limits))
        return server

    def _build_services(
        self, machine: EtcdMachine, clock: SystemClock, random: SystemRandom, limits: ReplicaLimits
    ) -> None:
        """Build what works behind the calls."""
        config, replica = self._config, self.replica
        self._leases = LeaseService(
            replica,
            LeaseTables(replica, machine),
            random,
            clock.now_s,
            election_timeout_s=limits.election_timeout_s,
        )
        self._compactor = Compactor(replica, machine)
        self._promoter = Promoter(replica)
        self._kv = KvService(
            replica,
            machine,
            max_request_bytes=config.limits.max_request_bytes,
            max_txn_ops=config.limits.max_txn_ops,
        )
        self._hub = WatchHub(
            replica,
            machine,
            History(machine),
            WatchLimits(fragment_bytes=config.limits.max_request_bytes + REQUEST_OVERHEAD_BYTES),
            random,
        )
        machine.subscribe(self._hub.advanced)
        self._joins = JoinService(replica, self._home.token, clock, random.randbytes)

    def _routes(self, machine: EtcdMachine, limits: ReplicaLimits) -> dict[str, Route]:
        """Bring the services behind one table of routes."""
        config, replica = self._config, self.replica
        headers = HeaderFiller(replica)
        quota_bytes = config.limits.quota_backend_bytes
        routes: list[Route] = [
            *kv.routes(self._kv, headers),
            *lease.routes(self._leases, headers),
            *cluster.routes(replica, headers),
            *maintenance.routes(self._kv, machine, replica, headers, quota_bytes=quota_bytes),
            *health.routes(),
            *watch.routes(self._hub),
            *dqlite_v1.join_routes(self._joins),
            *dqlite_v1.admin_routes(self._examine),
        ]
        admission = Admission(replica, election_timeout_s=limits.election_timeout_s)
        return table(admission.guard(routes))

    def _build_clients(self, machine: EtcdMachine, routes: dict[str, Route]) -> None:
        """Build what listens: routes and pages for clients, pages alone for those who measure."""
        figures.bind(
            self._metrics,
            self.replica,
            machine,
            self._hub,
            quota_bytes=self._config.limits.quota_backend_bytes,
        )
        authority = self._home.security.authority
        pages = Pages(
            self.replica,
            machine,
            self._metrics.exposition,
            metrics_type=CONTENT_TYPE,
            authority=bytes if authority is None else authority.pem,
        )
        self._http = HttpServer(WebApp(pages.table()), _call_failed)
        most_bytes = self._config.limits.max_request_bytes
        gateway = Gateway(
            routes,
            most_message_bytes=most_bytes + REQUEST_OVERHEAD_BYTES,
            failed=_call_failed,
            handled=self._call_handled,
        )
        self._clients = ClientServer(
            routes,
            WebApp(pages.table(), gateway, ANY_ORIGIN),
            Observers(_call_failed, self._call_handled, self._metrics.connection_ended),
            max_request_bytes=most_bytes,
        )

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until ``stop`` is set or this member is removed."""
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = asyncio.Event()
                background = [
                    tasks.create_task(self.replica.run(listening.set)),
                    tasks.create_task(self._leases.run()),
                    tasks.create_task(self._compactor.run()),
                    tasks.create_task(self._promoter.run()),
                ]
                self._watching = tasks.create_task(self._hub.run())
                main = tasks.create_task(self._serve(stop, listening, tasks))
                await main
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            await self._close()
        return main.result()

    async def _close(self) -> None:
        """Let go of everything; an error here must not hide why the server stops."""
        try:
            await self._clients.stop(0.0)
            await self._http.stop()
            await self.replica.close()
        except DqliteError as error:
            log.error("not closed in good order", extra={"reason": str(error)})

    async def _serve(
        self, stop: asyncio.Event, listening: asyncio.Event, tasks: asyncio.TaskGroup
    ) -> int:
        await listening.wait()
        await self._open_for_metrics(tasks)
        stopping = asyncio.ensure_future(stop.wait())
        removed = asyncio.ensure_future(self.replica.removed())
        opened = asyncio.ensure_future(self.replica.ready())
        waiting: list[asyncio.Future[Any]] = [stopping, removed, opened]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if opened.done():
                await self._open_for_clients()
                waiting.append(tasks.create_task(self._publish()))
                await asyncio.wait([stopping, removed], return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                await self._hand_over()
            self._watching.cancel()  # ends the watch streams, which would outlive the grace
            await self._clients.stop(STOP_GRACE_S)
            await self._http.stop()
            if removed.done():
                raise StartRefused(reason=REMOVED)
            return 0
        finally:
            for future in waiting:
                future.cancel()

    async def _open_for_metrics(self, tasks: asyncio.TaskGroup) -> None:
        endpoints = _endpoints(self._config.member.listen_metrics_urls)
        for secure, tls in ((False, None), (True, self._home.security.clients)):
            addresses = [one.address for one in endpoints if one.secure is secure]
            await self._http.start(addresses, tasks, tls)

    async def _open_for_clients(self) -> None:
        endpoints = _endpoints(self._config.member.listen_client_urls)
        await self._clients.start(endpoints, self._home.security.clients, "listen-client-urls")
        # What start-up has built stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()

    async def _publish(self) -> None:
        """Tell the cluster this member's name and client URLs; ready once it votes.

        A learner serves next to nothing (etcd behaviour), so a new member is not ready before.
        """
        own = self._config.member
        replica = self.replica
        while True:
            try:
                await replica.barrier()
                record = next((m for m in replica.members() if m.id == replica.member_id), None)
                if record is None:
                    raise MemberNotFound
                wanted = (own.name, own.advertise_client_urls)
                if (record.name, record.client_urls) != wanted:
                    await replica.update_member(
                        replica.member_id, name=own.name, client_urls=own.advertise_client_urls
                    )
                if not replica.is_learner:
                    break
                await asyncio.sleep(PUBLISH_RETRY_S)  # until the leader has made it a voter
            except DqliteError as error:
                log.info("not ready yet", extra={"reason": str(error)})
                await asyncio.sleep(PUBLISH_RETRY_S)
        log.info(
            "ready to serve client requests",
            extra={
                "member": f"{replica.member_id:x}",
                "cluster": f"{replica.cluster_id:x}",
                "client_urls": ",".join(own.listen_client_urls),
            },
        )

    async def _hand_over(self) -> None:
        """Give leadership away before stopping, if there is anybody to take it."""
        replica = self.replica
        if not replica.is_leader or len(replica.members()) < 2:
            return
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await replica.transfer_leadership(0)
        except (DqliteError, TimeoutError) as error:
            log.warning("leadership not handed over", extra={"reason": str(error) or "timed out"})

    def _call_handled(self, route: Route, code: Code) -> None:
        self._metrics.call_handled(route.kind.value, route.path, code.name)

    async def _examine(self, checkpoint: bool) -> admin_pb2.CheckResponse:
        """Serve dqlite.v1.Admin/Check."""
        if checkpoint:
            await self.replica.checkpoint()
        found = await self.replica.check_databases()
        return admin_pb2.CheckResponse(
            databases=[
                admin_pb2.CheckedDatabase(
                    name=one.name,
                    integrity=one.problems or ["ok"],
                    sha256=one.sha256,
                    base_index=one.base_index,
                    page_count=one.page_count,
                )
                for one in found
            ],
            applied_index=self.replica.applied_index,
        )


def _endpoints(urls: tuple[str, ...]) -> list[Endpoint]:
    return [Endpoint.parse("listen-urls", url) for url in urls]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group of one cause."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(event: str, fields: dict[str, Any]) -> None:
    log.info(event, extra=fields)


def _call_failed(path: str, error: BaseException) -> None:
    log.error("a call failed in a way it should not", exc_info=error, extra={"path": path})
