from __future__ import annotations

import pytest

from bench.profiling import Frame, profile_of, samples_in, shares_in_perf

RAW = """\
thread (10): MainThread;run (uv/a.py:38);put (dqlite_py/api/kv.py:3);put (dqlite_py/api/kv.py:4) 30
thread (10): MainThread;run (uv/a.py:38) 10
thread (11): writer;_serve (dqlite_py/system/threads.py:104) 900
thread (11): writer;_serve (dqlite_py/system/threads.py:107);step (dqlite_py/http/h2/framer.py:9) 5
"""
PUT = Frame("put", "dqlite_py/api/kv.py")
RUN = Frame("run", "uv/a.py")
STEP = Frame("step", "dqlite_py/http/h2/framer.py")


def source(file: str, number: int) -> str:
    return "while (item := self._jobs.get()) is not None:" if number == 104 else "work()"


def test_each_threads_time_is_shared_among_the_samples_in_which_it_worked() -> None:
    profile = profile_of(samples_in(RAW, source), {10: 40.0, 11: 6.0})
    assert dict(profile.own_functions) == pytest.approx({PUT: 30.0, RUN: 10.0, STEP: 6.0})


def test_a_recursive_function_counts_once_with_what_it_calls() -> None:
    profile = profile_of(samples_in(RAW, source), {10: 40.0, 11: 6.0})
    assert profile.whole_functions[PUT] == pytest.approx(30.0)
    assert profile.whole_functions[RUN] == pytest.approx(40.0)


def test_packages_are_the_products_rooms_and_foreign_names() -> None:
    profile = profile_of(samples_in(RAW, source), {10: 40.0, 11: 6.0})
    assert dict(profile.own_packages) == pytest.approx(
        {"dqlite_py/api": 30.0, "uv": 10.0, "dqlite_py/http/h2": 6.0}
    )
    assert Frame("f", "dqlite_py/http/h2_protocol.py").package == "dqlite_py/http"
    assert Frame("f", "dqlite_py/server.py").package == "dqlite_py/server"
    assert Frame("f", "<string>").package == "string"


def test_perfs_libraries_get_the_names_of_what_they_are() -> None:
    report = """\
# Overhead  Shared Object
    53.21%  libpython3.11.so.1.0
     9.8%  __init__.cpython-311-x86_64-linux-gnu.so
     2%  [kernel.kallsyms]
"""
    assert shares_in_perf(report) == [
        ("Python's interpreter", 53.21),
        ("apsw with SQLite", 9.8),
        ("kernel", 2.0),
    ]
