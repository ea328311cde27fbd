"""The span index against a plain search."""

from __future__ import annotations

import random

import pytest

from dqlite_py.watch.spans import SpanIndex
from tests.kit.watching import inside


@pytest.mark.parametrize("seed", range(5))
def test_matching_equals_a_plain_search_while_spans_come_and_go(seed: int) -> None:
    rng = random.Random(seed)
    index: SpanIndex[int] = SpanIndex()
    model: dict[int, tuple[bytes, bytes]] = {}
    for number in range(600):
        if model and rng.random() < 0.4:
            watcher = rng.choice(list(model))
            index.remove(*model.pop(watcher), watcher)
        else:
            first, last = sorted(rng.randbytes(rng.randrange(1, 3)) for _ in range(2))
            end = rng.choice((b"", b"\x00", last)) if first < last else b""
            model[number] = (first, end)
            index.add(first, end, number)
        assert len(index) == len(model)
        assert sorted(index.watchers()) == sorted(model)
        key = rng.randbytes(rng.randrange(1, 3))
        found = [watcher for span in index.matching(key) for watcher in span.watchers]
        assert sorted(found) == sorted(w for w, span in model.items() if inside(key, *span))


def test_disjoint_spans_are_found_without_visiting_them_all() -> None:
    index: SpanIndex[int] = SpanIndex()
    visited = 0
    for number in range(10_000):
        index.add(b"%06d" % number, b"%06d/" % number, number)
    search = index._search

    def counting(low: int, high: int, key: bytes):  # type: ignore[no-untyped-def]
        nonlocal visited
        visited += 1
        return search(low, high, key)

    index._search = counting  # type: ignore[method-assign]
    [span] = index.matching(b"004321")
    assert list(span.watchers) == [4321]
    assert visited < 60
