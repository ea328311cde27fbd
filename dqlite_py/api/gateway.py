"""etcd's JSON gateway: the calls of the route table for clients that speak HTTP and JSON only.

POST carries the whole request as one JSON object. A call that streams takes objects one after
another and answers each message in a line of its own, ``{"result":...}``; see ``json_messages`` for
the encodings. Errors have the fields of etcd 3.5 and later.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

from dqlite_py.api.gateway_paths import METHODS, OLD_PREFIX, PREFIX
from dqlite_py.api.json_messages import from_json, to_json
from dqlite_py.api.json_stream import ObjectSplitter, utf8
from dqlite_py.api.routes import Call, Kind, Route
from dqlite_py.api.status import Code, status_of
from dqlite_py.api.web import JSON, refusal, send
from dqlite_py.errors import MalformedJson
from dqlite_py.http.budget import Budget
from dqlite_py.http.grpc import timeout
from dqlite_py.http.grpc.status import Refused
from dqlite_py.http.web import (
    TOO_MUCH,
    BodyTooLarge,
    BodyUnusable,
    WebRequest,
    WebResponse,
)

T = TypeVar("T")

# Base64 makes bytes longer by a third; the rest is for names and space.
BODY_FACTOR = 2
# Python takes a second for what protobuf reads in milliseconds; others must not wait for that.
ASIDE_BYTES = 64 * 1024
METADATA_PREFIX = "grpc-metadata-"
# Says to a handler, as in etcd, that the caller is the gateway and not who its certificate names.
GATEWAY_MARK = "grpcgateway-accept"

OK_HEADERS = [("content-type", JSON), ("grpc-metadata-content-type", "application/grpc")]

# The usual mapping of gRPC gateways; what is not here is an error of the server.
HTTP_STATUS: Mapping[Code, HTTPStatus] = {
    Code.OK: HTTPStatus.OK,
    Code.CANCELLED: HTTPStatus.REQUEST_TIMEOUT,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}


class Gateway:
    """Serves every path of ``gateway_paths`` over a table of routes.

    A request may have ``most_message_bytes`` as protobuf and twice as many as JSON. ``failed`` is
    told (method path, error) of an error that no table knows, ``handled`` of every finished call.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        most_message_bytes: int,
        failed: Callable[[str, BaseException], None],
        handled: Callable[[Route, Code], None],
    ) -> None:
        self._routes = routes
        self._most_message_bytes = most_message_bytes
        self._failed = failed
        self._handled = handled
        self._aside = _Aside()

    def serves(self, path: str) -> bool:
        """Whether ``path`` is below one of the gateway's prefixes."""
        return path.startswith((PREFIX, OLD_PREFIX))

    async def __call__(self, request: WebRequest, response: WebResponse) -> None:
        """Answer one request; see ``WebHandler``. Raises BodyUnusable."""
        path = request.path
        if path.startswith(OLD_PREFIX):
            path = PREFIX + path.removeprefix(OLD_PREFIX)
        method = METHODS.get(path)
        if method is None:
            await send(response, refusal(404, "Not Found"))
        elif request.method != "POST":
            await send(response, refusal(405, "Method Not Allowed", ("allow", "POST")))
        else:
            await self._call(method, request, response)

    async def _call(self, method: str, request: WebRequest, response: WebResponse) -> None:
        answer = _Answer(response, self._aside)
        try:
            route = self._routes.get(method)
            if route is None:
                _, service, name = method.split("/")
                text = f"unknown method {name} for service {service}"
                raise Refused(Code.UNIMPLEMENTED, text)
            call = _call_of(request)
            if route.kind is Kind.BIDI:
                await self._converse(route, call, request, answer)
            else:
                await self._ask(route, call, request, answer)
        except Refused as refused:
            await answer.fail(refused.code, refused.text)

    async def _ask(self, route: Route, call: Call, request: WebRequest, answer: _Answer) -> None:
        """Make a call of one request."""
        try:
            text = utf8(await request.read(BODY_FACTOR * self._most_message_bytes))
            message = await self._aside.run(len(text), from_json, text, route.request_type)
        except MalformedJson as error:
            raise Refused(Code.INVALID_ARGUMENT, error.reason) from None
        except BodyTooLarge as error:
            raise Refused(Code.RESOURCE_EXHAUSTED, str(error)) from None
        size_bytes = message.ByteSize()
        if size_bytes > self._most_message_bytes:
            text = f"received message larger than max ({size_bytes} vs. {self._most_message_bytes})"
            raise Refused(Code.RESOURCE_EXHAUSTED, f"grpc: {text}")
        if route.kind is Kind.UNARY:
            result = await self._run(route, call, message)
            await answer.whole(route, result)
        else:
            await self._run(route, call, message, answer.sender(route))
            await answer.end()

    async def _converse(
        self, route: Route, call: Call, request: WebRequest, answer: _Answer
    ) -> None:
        """Make a call of a stream of requests."""
        most_bytes = BODY_FACTOR * self._most_message_bytes
        messages = _Messages(request, route, most_bytes, self._aside)
        try:
            await messages.prefetch()
            await self._run(route, call, messages, answer.sender(route))
        except MalformedJson as error:
            raise Refused(Code.INVALID_ARGUMENT, error.reason) from None
        await answer.end()

    async def _run(self, route: Route, call: Call, *arguments: Any) -> Any:
        """Run a handler; raise Refused for its errors, and when the deadline passes."""
        code = Code.CANCELLED  # unless the handler comes to an end of its own
        try:
            async with asyncio.timeout(call.remaining_s) as deadline:
                result = await route.handler(*arguments, call)
            code = Code.OK
        except (BodyUnusable, MalformedJson):
            code = Code.INVALID_ARGUMENT
            raise
        except Exception as error:
            if deadline.expired():
                code, text = Code.DEADLINE_EXCEEDED, "context deadline exceeded"
            else:
                code, text = status_of(error)
            if code is Code.INTERNAL:
                self._failed(route.path, error)
            raise Refused(code, text) from None
        finally:
            self._handled(route, code)
        return result


class _Aside:
    """Does what takes long in a thread, one piece at a time so that the loop keeps its half."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def run(self, size_bytes: int, work: Callable[..., T], *arguments: Any) -> T:
        """Return what ``work`` returns, or raise what it raises; small pieces are done at once."""
        if size_bytes < ASIDE_BYTES:
            return work(*arguments)
        async with self._turn:
            return await asyncio.to_thread(work, *arguments)


class _Messages:
    """The requests of a stream, as they arrive."""

    def __init__(self, request: WebRequest, route: Route, most_bytes: int, aside: _Aside) -> None:
        self._aside = aside
        self._objects = _objects(request, most_bytes)
        self._type = route.request_type
        self._first: Any = None

    async def prefetch(self) -> None:
        """Read the first one, so that what is no request at all never becomes a call."""
        async for text in self._objects:
            self._first = await self._read(text)
            return

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._read(await anext(self._objects))

    async def _read(self, text: str) -> Any:
        return await self._aside.run(len(text), from_json, text, self._type)


async def _objects(request: WebRequest, most_bytes: int) -> AsyncIterator[str]:
    splitter = ObjectSplitter(most_bytes)
    share = _Share(request.budget, splitter)
    try:
        async for chunk in request.chunks:
            share.require()
            for text in splitter.feed(chunk):
                yield text
            share.hold()
        share.require()
        splitter.finish()
    finally:
        share.give_back()


class _Share:
    """What a stream's incomplete object holds of what all may hold together."""

    def __init__(self, budget: Budget | None, splitter: ObjectSplitter) -> None:
        self._budget = budget
        self._splitter = splitter
        self._held_bytes = 0
        self._given_way = False

    def hold(self) -> None:
        """Take what is kept now; raise BodyUnusable if it is too much."""
        more_bytes = self._splitter.held_bytes - self._held_bytes
        if self._budget is not None:
            self._given_way = not self._budget.take(more_bytes, self)
            self.require()
            self._held_bytes += more_bytes

    def require(self) -> None:
        """Raise BodyUnusable if this stream had to give way."""
        if self._given_way:
            raise BodyUnusable(503, TOO_MUCH)

    def give_back(self) -> None:
        """Hold nothing any more."""
        if self._budget is not None:
            self._budget.take(-self._held_bytes, self)
            self._budget.forget(self)
        self._held_bytes = 0

    def give_way(self) -> None:
        """Drop what is kept; the stream fails with what comes next."""
        self.give_back()
        self._splitter.drop()
        self._given_way = True


class _Answer:
    """Sends results and errors; what has the form depends on whether the answer has begun."""

    def __init__(self, response: WebResponse, aside: _Aside) -> None:
        self._response = response
        self._aside = aside
        self._begun = False

    async def whole(self, route: Route, message: Any) -> None:
        """Answer with one message."""
        body = (await self._json(route, message)).encode()
        self._begun = True
        await self._response.start(200, OK_HEADERS, body_bytes=len(body))
        await self._response.write(body)

    def sender(self, route: Route) -> Callable[[Any], Any]:
        """Return what a streaming handler sends with: each message becomes a line."""

        async def send_line(message: Any) -> None:
            await self._line(f'{{"result":{await self._json(route, message)}}}\n')

        return send_line

    async def end(self) -> None:
        """End a stream that may have had no message."""
        if not self._begun:
            await self._begin()

    async def fail(self, code: Code, text: str) -> None:
        """Tell of an error: as the answer, or as a stream's last line."""
        status = HTTP_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
        if self._begun:
            error = {
                "grpc_code": int(code),
                "http_code": int(status),
                "message": text,
                "http_status": status.phrase,
                "code": int(code),  # its name from etcd 3.6 on
            }
            await self._line(_dumped({"error": error}) + "\n")
            return
        body = _dumped({"error": text, "code": int(code), "message": text}).encode()
        self._begun = True
        await self._response.start(int(status), [("content-type", JSON)], body_bytes=len(body))
        await self._response.write(body)

    async def _json(self, route: Route, message: Any) -> str:
        size_bytes = len(message) if type(message) is bytes else message.ByteSize()
        return await self._aside.run(size_bytes, _to_json, route, message)

    async def _line(self, text: str) -> None:
        if not self._begun:
            await self._begin()
        await self._response.write(text.encode())

    async def _begin(self) -> None:
        self._begun = True
        await self._response.start(200, OK_HEADERS)


def _to_json(route: Route, message: Any) -> str:
    return to_json(route.response_type.FromString(message) if type(message) is bytes else message)


def _dumped(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _call_of(request: WebRequest) -> Call:
    """Return what the headers say of the call; raise Refused for a timeout that is none."""
    headers = request.headers
    metadata: dict[str, str | bytes] = {GATEWAY_MARK: headers.get("accept", "*/*")}
    for name, value in headers.items():
        if name.startswith(METADATA_PREFIX) and not name.endswith("-bin"):
            metadata[name.removeprefix(METADATA_PREFIX)] = value
    if "authorization" in headers:
        metadata["authorization"] = headers["authorization"]
    text = headers.get("grpc-timeout")
    return Call(metadata, None if text is None else _seconds(text))


def _seconds(text: str) -> float:
    try:
        return timeout.seconds(text.encode())
    except Refused:
        raise Refused(Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}") from None
