from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from dqlite_py.cli import main as entry
from dqlite_py.cli.channels import Target
from dqlite_py.cli.endpoints import parse_endpoints, parse_member_id
from dqlite_py.cli.log_setup import LineFormatter
from dqlite_py.cli.main import COMMANDS, main
from dqlite_py.cli.server import why_stopped
from dqlite_py.errors import CorruptFile, DamagedTail, InvariantBroken, StartRefused
from dqlite_py.storage import token_file


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_subcommand_has_help(name: str, capsys) -> None:
    assert main([name, "--help"]) == 0
    assert "Usage: dqlite-py" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["server", "--nonsense"],
        ["server", "stray"],
        ["server", "--heartbeat-interval", "0"],
        ["server", "--config-file", "/absent.toml"],
        ["status", "--endpoints", "nonsense"],
        ["member", "remove", "not-an-id"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path, capsys) -> None:
    assert main(["token", "--data-dir", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_damaged_file_is_named_in_one_line_that_says_what_to_do(monkeypatch, capsys) -> None:
    def start(*_: object, **__: object) -> None:
        raise DamagedTail(path="/data/raft/1.seg", detail="the last batch is damaged")

    monkeypatch.setattr("click.Group.main", start)
    assert main(["server"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/data/raft/1.seg: the last batch is damaged" in line
    assert "member remove" in line
    assert "--server" in line


def test_an_endpoint_without_a_server_is_exit_code_1(capsys) -> None:
    assert main(["member", "list", "--endpoints", "127.0.0.1:1"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_token_of_a_data_directory_is_printed(tmp_path, capsys) -> None:
    path = tmp_path / "token"
    path.write_bytes(token_file.encode("open-sesame"))
    assert main(["token", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "open-sesame\n"
    path.write_text("open-sesami\n")
    assert main(["token", "--data-dir", str(tmp_path)]) == 1
    assert str(path) in capsys.readouterr().err


def test_a_generated_token_is_printed_alone(capsys) -> None:
    assert main(["token", "--generate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert len(lines[0]) == 52


def test_endpoints_are_reduced_to_host_and_port() -> None:
    assert parse_endpoints("http://a:1/, b:2") == [Target("a:1"), Target("b:2")]
    assert parse_member_id("8e9e05c52164694d") == 0x8E9E05C52164694D


def test_the_reason_is_found_inside_groups_but_defects_keep_their_traceback() -> None:
    refused = StartRefused(reason="x")
    assert why_stopped(ExceptionGroup("", [ValueError(), refused])) is refused
    assert isinstance(why_stopped(CorruptFile(path="p", detail="d")), CorruptFile)
    assert why_stopped(InvariantBroken(detail="d")) is None
    assert why_stopped(ValueError()) is None


def test_log_lines_stay_single_and_quote_values() -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "two\nlines", (), None)
    record.member = "a b"
    record.count = 3
    line = LineFormatter().format(record)
    assert "\n" not in line
    assert line.endswith('Z INFO two\\nlines member="a b" count=3')


def test_the_command_line_starts_without_loading_tables_or_grpc() -> None:
    code = (
        "import sys; import dqlite_py.cli.main, dqlite_py.cli.log_setup, dqlite_py.config;"
        "print(sorted({'rich', 'grpc'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
    assert entry.COMMANDS
