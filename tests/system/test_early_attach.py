"""The agent attaches before it knows that it can start: then nothing may stay in the kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.testlib.agent import AGENT_COMMAND
from tests.testlib.command import clean_environ
from tests.testlib.kernel.bpffs import mount_bpffs


@pytest.mark.parametrize(
    ("variables", "code", "message"),
    [
        ({}, 1, "can't be"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "gopher://127.0.0.1"}, 2, "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
    ids=["unusable state directory", "wrong variable"],
)
def test_an_agent_that_cannot_start_leaves_no_pins(
    tmp_path: Path, variables: dict[str, str], code: int, message: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        pin_dir = mounted / "v1"
        done = subprocess.run(
            [*AGENT_COMMAND, "--state-dir", file / "state", "--pin-dir", pin_dir],
            env={**clean_environ(), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
        assert pin_dir.is_dir(), "it was attached"
        assert list(pin_dir.iterdir()) == []
