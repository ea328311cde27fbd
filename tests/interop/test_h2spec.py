"""h2spec, the conformance test of HTTP/2 servers, finds nothing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.kit.pki import Authority
from tests.kit.processes import ServerProcess, run
from tests.kit.products import under_test
from tests.kit.tls_servers import tls_server
from tests.kit.toolchains import go_program

pytestmark = pytest.mark.process

CASE_TIMEOUT_S = 10
RUN_TIMEOUT_S = 240.0
FEWEST_CASES = {"generic": 40, "http2": 90, "hpack": 7}
# In the clear the first bytes tell HTTP/2 from HTTP/1.1: what is no preface of HTTP/2 is answered
# as a bad request of HTTP/1.1. Under TLS the protocol is agreed on, and this case passes too.
HTTP_1_ANSWERS = "Sends invalid connection preface"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    pair = Authority(tmp_path_factory.mktemp("authority")).issue("server")
    with tls_server(tmp_path_factory.mktemp("secure"), pair) as lone:
        yield lone


@pytest.mark.parametrize("section", FEWEST_CASES)
@pytest.mark.parametrize("transport", ["clear", pytest.param("tls", marks=pytest.mark.long)])
def test_every_case_of_h2spec_passes(
    transport: str,
    section: str,
    request: pytest.FixtureRequest,
    built: Callable[..., Path],
    may_build: bool,
) -> None:
    if under_test().name == "etcd":
        pytest.skip("etcd does not pass h2spec")
    package = "github.com/summerwind/h2spec/cmd/h2spec"
    program = built(lambda: go_program("h2spec", package, build=may_build))
    server = request.getfixturevalue("server" if transport == "clear" else "secure")
    outcomes, output = h2spec(program, section, server, tls=transport == "tls")
    if transport == "clear":
        outcomes = {name: ill for name, ill in outcomes.items() if HTTP_1_ANSWERS not in name}
    listing = "\n".join(f"{ill or 'passed':8} {name}" for name, ill in outcomes.items())
    assert len(outcomes) >= FEWEST_CASES[section], output
    assert not any(outcomes.values()), f"{listing}\n{output}"
    assert server.running


def h2spec(
    program: Path, section: str, server: ServerProcess, *, tls: bool
) -> tuple[dict[str, str], str]:
    """Run a section; return what is wrong with each case, nothing if it passed, and the output."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        done = run(
            [
                *(str(program), section, "--strict"),
                *(("--tls", "--insecure") if tls else ()),
                "--host=127.0.0.1",
                f"--port={server.address.client_port}",
                "--path=/version",
                f"--timeout={CASE_TIMEOUT_S}",
                f"--junit-report={report.name}",
            ],
            RUN_TIMEOUT_S,
        )
        cases = ElementTree.parse(report.name).getroot().findall(".//testcase")
    named = {f"{case.get('package')} {case.get('classname')}": _ill(case) for case in cases}
    assert len(named) == len(cases)
    return named, done.stdout + done.stderr


def _ill(case: ElementTree.Element) -> str:
    """Return what is wrong with a case; nothing if it passed."""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            text = re.sub(r"\s+", " ", found.text or "").strip()
            return f"{kind}: {text}"
    return ""
