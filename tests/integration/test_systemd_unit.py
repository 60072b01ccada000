"""The example unit, as systemd itself judges it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require

UNIT = REPOSITORY / "deploy/systemd/otel-oom.service"
MOST_EXPOSURE = 29
"""Tenths: under 3.0."""


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``systemd-analyze``."""
    require(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


def test_its_exposure_is_low() -> None:
    """`systemd-analyze security` finds it under 3.0, where 10 is a service without any fence."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE}", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing against it once the program is where it says."""
    text = UNIT.read_text(encoding="utf-8")
    installed = tmp_path / UNIT.name
    installed.write_text(text.replace("/opt/otel-oom/bin/otel-oom", "/bin/true"), encoding="utf-8")
    done = analyze("verify", installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_wrong_line_would_be_found(tmp_path: Path) -> None:
    """What the two tests above rest on: systemd complains of a setting that it does not know."""
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
def test_it_keeps_the_agent_alive(line: str) -> None:
    """What the agent's own life depends on is there."""
    assert re.search(f"(?m)^{line}$", UNIT.read_text(encoding="utf-8"))
