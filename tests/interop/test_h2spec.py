"""h2spec, the conformance test of HTTP/2 servers, finds nothing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.interop.conftest import grpcio_serves
from tests.kit.processes import ServerProcess, run
from tests.kit.toolchains import go_program

pytestmark = pytest.mark.process

CASE_TIMEOUT_S = 2
RUN_TIMEOUT_S = 240.0
FEWEST_CASES = {"generic": 40, "http2": 90, "hpack": 7}


@pytest.mark.parametrize("section", FEWEST_CASES)
def test_every_case_of_h2spec_passes(
    section: str, server: ServerProcess, built: Callable[..., Path], may_build: bool
) -> None:
    if grpcio_serves():
        pytest.skip("grpcio's server does not pass h2spec")
    package = "github.com/summerwind/h2spec/cmd/h2spec"
    program = built(lambda: go_program("h2spec", package, build=may_build))
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        done = run(
            [
                str(program),
                section,
                "--strict",
                "--host=127.0.0.1",
                f"--port={server.address.client_port}",
                "--path=/version",
                f"--timeout={CASE_TIMEOUT_S}",
                f"--junit-report={report.name}",
            ],
            RUN_TIMEOUT_S,
        )
        cases = ElementTree.parse(report.name).getroot().findall(".//testcase")
    outcomes = {f"{case.get('package')} {case.get('classname')}": _ill(case) for case in cases}
    listing = "\n".join(f"{ill or 'passed':8} {name}" for name, ill in outcomes.items())
    assert len(cases) >= FEWEST_CASES[section], done.stdout
    assert not any(outcomes.values()), f"{listing}\n{done.stdout}"
    assert done.returncode == 0, done.stdout
    assert server.running


def _ill(case: ElementTree.Element) -> str:
    """Return what is wrong with a case; nothing if it passed."""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            text = re.sub(r"\s+", " ", found.text or "").strip()
            return f"{kind}: {text}"
    return ""
