"""``dqlite-py server``: settings in, then a server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from dqlite_py.cli.log_setup import set_up_logging
from dqlite_py.config import ENV_PREFIX, SETTINGS, load, read_config_file
from dqlite_py.errors import DqliteError, Fatal, InvariantBroken, StartRefused
from dqlite_py.server import serve

log = logging.getLogger(__name__)


def _options() -> list[click.Parameter]:
    options: list[click.Parameter] = [
        click.Option(
            ["--config-file"],
            metavar="FILE",
            help="Settings as TOML, or JSON if named *.json; keys are the flags' names.",
        )
    ]
    for setting in SETTINGS:
        text = setting.summary
        if setting.default and not setting.is_switch:
            text += f" [default: {setting.default}]"
        if setting.is_switch:
            options.append(
                click.Option([f"--{setting.name}/--no-{setting.name}"], default=None, help=text)
            )
        else:
            metavar = "SECRET" if setting.is_secret else "VALUE"
            options.append(click.Option([f"--{setting.name}"], metavar=metavar, help=text))
    return options


def run_server(config_file: str | None, **flags: Any) -> int:
    """Read the settings, run the server, return its exit code."""
    path = config_file or os.environ.get(ENV_PREFIX + "CONFIG_FILE")
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    config = load(given, os.environ, read_config_file(path) if path else {})
    set_up_logging(config.log_level)
    try:
        return event_loop_runner()(serve(config))
    except (DqliteError, ExceptionGroup) as error:
        reason = why_stopped(error)
        if reason is None:
            raise
        log.debug("stopped", exc_info=error)
        raise reason from None


def event_loop_runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return uvloop's ``run`` when it is installed, asyncio's otherwise."""
    if find_spec("uvloop") is None:
        return asyncio.run
    runner: Callable[[Coroutine[Any, Any, int]], int] = import_module("uvloop").run
    return runner


def why_stopped(error: BaseException) -> DqliteError | None:
    """Return the refusal or fatal condition inside ``error``; None if it is a defect instead.

    A broken invariant keeps its traceback, so it counts as a defect.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [why_stopped(inner) for inner in error.exceptions]
        return next((one for one in found if one is not None), None)
    if isinstance(error, InvariantBroken) or not isinstance(error, Fatal | StartRefused):
        return None
    return error


command = click.Command(
    "server",
    callback=run_server,
    params=_options(),
    help=(
        "Run a server.\n\n"
        f"Every flag has a variable {ENV_PREFIX}NAME and a key in --config-file; a flag beats a "
        "variable, a variable beats the file. On a data directory that already belongs to a "
        "cluster, --cluster-init, --server and --token are ignored."
    ),
)
