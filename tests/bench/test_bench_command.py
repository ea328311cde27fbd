from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as command
from bench.failures import CannotMeasure


def run(tmp_path: Path, *more: str) -> int:
    arguments = command.parser().parse_args(["run", "--rounds=1", f"--out={tmp_path}", *more])
    result: int = arguments.command(arguments)
    return result


def written(tmp_path: Path) -> dict[str, Any]:
    (path,) = tmp_path.glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("flag", ["--only=troughput", "--products=etcd2"])
def test_an_unknown_name_is_refused(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, flag) == 2
    assert flag.partition("=")[2] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_start_fails_the_command_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> tuple[float, float]:
        raise CannotMeasure("n1 ended with 1")

    monkeypatch.setattr(command, "cold_start_s", refuse)
    assert run(tmp_path, "--only=start", "--products=dqlite") == 1
    assert "dqlite: start: CannotMeasure: n1 ended with 1" in capsys.readouterr().out
    assert written(tmp_path)["cold_start_s"] == {"dqlite": []}


def test_a_run_that_is_broken_off_shows_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(0.3, 0.4)])
    monkeypatch.setattr(command, "cold_start_s", lambda _: next(answers))
    with pytest.raises(StopIteration):
        run(tmp_path, "--only=start")
    assert written(tmp_path)["cold_start_s"] == {"dqlite": [0.3], "etcd": []}


def test_rounds_alternate_who_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def start(product: Any) -> tuple[float, float]:
        order.append(product.name)
        return 0.3, 0.4

    monkeypatch.setattr(command, "cold_start_s", start)
    assert run(tmp_path, "--rounds=3", "--only=start") == 0
    assert order == ["dqlite", "etcd", "etcd", "dqlite", "dqlite", "etcd"]
