"""The console script: finds the subcommand and turns errors into one line and an exit code.

Exit codes: 0 done or asked to stop, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from dqlite_py.errors import CorruptFile, DqliteError, InvalidSetting, StartRefused

EXIT_REFUSED = 1
EXIT_USAGE = 2

# Subcommands are imported when they are used: a server must not carry tables and progress bars.
COMMANDS = {
    "demo": ("dqlite_py.cli.demo", "Start three servers here and show what they do."),
    "leader": ("dqlite_py.cli.leader", "Move leadership."),
    "member": ("dqlite_py.cli.member", "List, remove and promote members."),
    "server": ("dqlite_py.cli.server", "Run a server."),
    "status": ("dqlite_py.cli.status", "Show the state of servers."),
    "token": ("dqlite_py.cli.token", "Show or make the secret that new servers join with."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported on use; each module calls its own ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all subcommands, sorted."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand, None if there is none of this name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command), cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands for ``--help`` without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup)
@click.version_option(package_name="dqlite_py", prog_name="dqlite-py")
def dqlite_py() -> None:
    """Run a Raft-replicated SQLite that serves the etcd v3 API."""


# Docs: decision 3. A member that catches up instead may have forgotten a vote.
AFTER_DAMAGE: Final = (
    "if other members have the data, remove this one ('member remove'), empty the data directory "
    "and join again with --server; otherwise put back a copy of the whole directory"
)


def complain(text: str) -> None:
    """Print one line on standard error."""
    click.echo(f"dqlite-py: {' '.join(text.split())}", err=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; ``arguments`` default to the process's own."""
    # gRPC's library writes lines of its own about failed connections, beside the one of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        result = dqlite_py.main(
            args=None if arguments is None else list(arguments),
            prog_name="dqlite-py",
            standalone_mode=False,
        )
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        click.echo(f"dqlite-py: {error.format_message()}", err=True)
        return EXIT_REFUSED
    except (click.Abort, KeyboardInterrupt):
        return EXIT_REFUSED
    except InvalidSetting as error:
        complain(f"--{error.setting}: {error.reason}")
        return EXIT_USAGE
    except StartRefused as error:
        complain(f"refused: {error.reason}")
        return EXIT_REFUSED
    except CorruptFile as error:
        complain(f"refused: {error.path}: {error.detail}; {AFTER_DAMAGE}")
        return EXIT_REFUSED
    except DqliteError as error:
        complain(str(error))
        return EXIT_REFUSED
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
