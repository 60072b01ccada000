"""Prerequisites of tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def require(condition: object, reason: str) -> None:
    """Skip the calling test with ``reason`` unless the condition is truthy.

    Where the environment variable `CI` is `true` the test fails instead, so that no pipeline is
    green because a prerequisite was missing.
    """
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"required in CI: {reason}", pytrace=False)
    pytest.skip(reason)


def require_programs(*programs: str | Path) -> None:
    """Skip the calling test, or fail it in CI, unless each program is installed."""
    missing = [str(program) for program in programs if not shutil.which(program)]
    require(not missing, f"not installed: {', '.join(missing)}")
