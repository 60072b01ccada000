"""What doctor has found, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from otel_oom.capture.source import CaptureError

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``advice`` is empty when all is well."""

    name: str
    state: str
    detail: str
    advice: str = ""


def milder(finding: Check) -> Check:
    """The same where something else stands in for what failed."""
    return replace(finding, state=WARN) if finding.state == FAIL else finding


def failed(name: str, error: CaptureError) -> Check:
    """A finding out of an error whose first sentence is what is wrong, and the rest the way out."""
    detail, _, advice = str(error).partition(". ")
    return Check(name, FAIL, detail, advice)
