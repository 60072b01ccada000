"""What a test cannot do without."""

from __future__ import annotations

import os

import pytest


def require(condition: object, reason: str) -> None:
    """Go on only if the condition is truthy.

    Otherwise the calling test is skipped with the reason; where the environment variable `CI`
    is `true` it fails instead, so that no pipeline is green because its parts were missing.
    """
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}", pytrace=False)
    pytest.skip(reason)
