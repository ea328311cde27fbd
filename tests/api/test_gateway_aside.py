"""Large messages are turned into JSON, and out of it, beside the event loop."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dqlite_py.api import gateway
from tests.api.gateway_site import Site

KEY_BYTES = 300


@pytest.mark.parametrize(
    ("path", "limit_bytes", "aside"),
    [
        ("/v3/kv/range", KEY_BYTES, True),
        ("/v3/kv/range", 10 * KEY_BYTES, False),
        ("/v3/lease/keepalive", 1, True),
    ],
)
def test_large_messages_do_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch, path: str, limit_bytes: int, aside: bool
) -> None:
    threads: list[tuple[str, bool]] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            here = threading.current_thread() is not threading.main_thread()
            threads.append((work.__name__, here))
            return work(*arguments)

        return noted

    monkeypatch.setattr(gateway, "ASIDE_BYTES", limit_bytes)
    for work in (gateway.from_json, gateway.to_json):
        monkeypatch.setattr(gateway, work.__name__, noting(work))
    body = b'{"key":"%s","ID":1}' % base64.b64encode(bytes(KEY_BYTES))

    async def scene() -> None:
        answer = await Site().post(path, body)
        assert answer.status == 200

    asyncio.run(scene())
    assert threads == [("from_json", aside), ("to_json", aside)]
