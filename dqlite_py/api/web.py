"""What the server answers to requests that are not gRPC: pages for operators, and the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs

from dqlite_py.http.web import WebRequest, WebResponse

PLAIN_TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
ANY_ORIGIN = ("*",)
PAGE_BODY_BYTES = 64 * 1024  # pages want none, but a client may send one

# etcd's, to the letter: browsers compare them with what a script wants to send.
CORS_METHODS = "POST, GET, OPTIONS, PUT, DELETE"
CORS_HEADERS = "accept, content-type, authorization"

Headers = list[tuple[str, str]]
Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says."""

    body: bytes
    status: int = 200
    content_type: str = PLAIN_TEXT
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[Query], Awaitable[Answer]]


class PathHandler(Protocol):
    """Answers whatever is below some paths, such as the JSON gateway."""

    def serves(self, path: str) -> bool:
        """Whether requests for ``path`` are its business."""

    async def __call__(self, request: WebRequest, response: WebResponse) -> None:
        """Answer one of them."""


class WebApp:
    """The ``WebHandler`` of a port: each page answers GET and HEAD of one path exactly.

    ``origins`` are the web origins whose scripts may read the answers ("*": any; etcd's --cors);
    without any, as on a port for metrics only, nothing is said about them. A page that raises is
    answered as the server does for any handler.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        gateway: PathHandler | None = None,
        origins: Collection[str] = (),
    ) -> None:
        self._pages = pages
        self._gateway = gateway
        self._origins = frozenset(origins)

    async def __call__(self, request: WebRequest, response: WebResponse) -> None:
        """Answer one request; see ``WebHandler``."""
        if self._origins:
            response = _WithHeaders(response, self._cors(request))
            if request.method == "OPTIONS":
                await response.start(200, [], body_bytes=0)
                return
        if self._gateway is not None and self._gateway.serves(request.path):
            await self._gateway(request, response)
        else:
            await request.read(PAGE_BODY_BYTES)  # so that no answer overtakes its request
            await send(response, await self._page(request))

    async def _page(self, request: WebRequest) -> Answer:
        page = self._pages.get(request.path)
        if page is None:
            return refusal(404, "404 page not found")
        if request.method not in {"GET", "HEAD"}:
            return refusal(405, "Method Not Allowed", ("allow", "GET"))
        return await page(parse_qs(request.query, keep_blank_values=True))

    def _cors(self, request: WebRequest) -> Headers:
        origin = request.headers.get("origin", "")
        allowed = "*" if "*" in self._origins else origin if origin in self._origins else ""
        if not allowed:
            return []
        return [
            ("access-control-allow-headers", CORS_HEADERS),
            ("access-control-allow-methods", CORS_METHODS),
            ("access-control-allow-origin", allowed),
        ]


class _WithHeaders:
    """A response whose every answer has some headers more."""

    def __init__(self, response: WebResponse, headers: Headers) -> None:
        self._response = response
        self._headers = headers
        self.write = response.write

    async def start(
        self, status: int, headers: Sequence[tuple[str, str]], *, body_bytes: int | None = None
    ) -> None:
        await self._response.start(status, [*self._headers, *headers], body_bytes=body_bytes)


def refusal(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    """Return an error in plain text, as etcd's pages and gateway word theirs."""
    more = (("x-content-type-options", "nosniff"), *headers)
    return Answer(f"{text}\n".encode(), status, PLAIN_TEXT, more)


async def send(response: WebResponse, answer: Answer) -> None:
    """Send a whole answer."""
    headers = [("content-type", answer.content_type), *answer.headers]
    await response.start(answer.status, headers, body_bytes=len(answer.body))
    await response.write(answer.body)
