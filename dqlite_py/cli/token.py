"""``dqlite-py token``: the secret that new servers join with."""

from __future__ import annotations

import secrets

import click

from dqlite_py.cluster.tokens import TOKEN_FILE_NAME, Token
from dqlite_py.errors import StartRefused
from dqlite_py.storage import token_file
from dqlite_py.storage.datadir import AUTHORITY_FILE, PKI_FOLDER


@click.command("token")
@click.option(
    "--data-dir",
    default="default.dqlite",
    show_default=True,
    envvar="DQLITE_PY_DATA_DIR",
    help="Directory of a server of the cluster.",
)
@click.option("--generate", is_flag=True, help="Print a new one for `server --cluster-init`.")
def command(data_dir: str, generate: bool) -> None:
    """Print the token kept in a server's data directory, or make a new one.

    Where the client port of that server has a certificate, the token names its authority.
    """
    if generate:
        click.echo(Token.generate(secrets.token_bytes).text)
        return
    path = f"{data_dir}/{TOKEN_FILE_NAME}"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise StartRefused(
            reason=f"{path}: {error.strerror}; name the server's directory with --data-dir"
        ) from None
    token = Token.parse(token_file.decode(path, data))
    click.echo(token.pinned_to(_authority(f"{data_dir}/{PKI_FOLDER}/{AUTHORITY_FILE}")))


def _authority(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StartRefused(reason=f"{path}: {error.strerror}") from None
