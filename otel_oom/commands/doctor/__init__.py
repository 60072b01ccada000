"""``otel-oom doctor``: what this host allows, who would be killed, if the endpoint answers.

Every finding that is not well says what to do.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from otel_oom import __version__
from otel_oom.commands.console.page import Page
from otel_oom.commands.console.terminal import Terminal
from otel_oom.commands.doctor import prediction
from otel_oom.commands.doctor.check import FAIL, OK, WARN, Check
from otel_oom.commands.doctor.endpoints import delivery
from otel_oom.commands.doctor.host import on_host
from otel_oom.commands.doctor.sources import sources

_MARKS: Final = {OK: "✓", WARN: "!", FAIL: "✗"}


def doctor(*, as_json: bool) -> int:
    """Look at everything and print it; 0 when kills can be captured and sent, else 1."""
    findings = list(_findings())
    failed = any(finding.state == FAIL for finding in findings)
    seen = prediction.look()
    if as_json:
        report = {
            "version": __version__,
            "ok": not failed,
            "findings": [*map(asdict, findings)],
            "outlook": seen.to_json(),
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        for finding in findings:
            sys.stdout.write(f"{_MARKS[finding.state]} {finding.name}: {finding.detail}\n")
            if finding.advice:
                advice = finding.advice.replace("\n", "\n      ")
                sys.stdout.write(f"    → {advice}\n")
        for line in prediction.lines(seen, Page(Terminal.of(sys.stdout))):
            sys.stdout.write(line + "\n")
    return int(failed)


def _findings() -> Iterator[Check]:
    uname = os.uname()
    yield Check("kernel", OK, f"{uname.sysname} {uname.release} {uname.machine}")
    yield from sources()
    yield from on_host()
    yield from delivery()
