"""The unit of deploy/, as systemd itself judges it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require

UNIT = REPOSITORY / "deploy/systemd/otel-oom.service"
MAX_EXPOSURE = 29
"""In tenths: below 3.0."""


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``systemd-analyze``."""
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_exposure_is_low() -> None:
    """10 is a service without any protection."""
    done = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSURE}", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` prints nothing once the program is at its path."""
    text = UNIT.read_text(encoding="utf-8")
    installed = tmp_path / UNIT.name
    installed.write_text(text.replace("/opt/otel-oom/bin/otel-oom", "/bin/true"), encoding="utf-8")
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_wrong_line_would_be_found(tmp_path: Path) -> None:
    """The premise of the two tests above."""
    wrong = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8").replace("OOMScoreAdjust=", "OOMScoreAdjusted=")
    wrong.write_text(text.replace("/opt/otel-oom/bin/otel-oom", "/bin/true"), encoding="utf-8")
    done = analyze("verify", wrong)
    assert "OOMScoreAdjusted" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "WatchdogSec=30",
        "OOMScoreAdjust=-999",
        "LimitMEMLOCK=infinity",
    ],
)
def test_the_unit_keeps_the_agent_running(line: str) -> None:
    """What the agent's own life depends on is there."""
    assert re.search(f"(?m)^{line}$", UNIT.read_text(encoding="utf-8"))
