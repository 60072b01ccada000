"""All checks and the prediction, on screen or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import to_builtins

from otel_oom import __version__
from otel_oom.commands.doctor import FAIL, OK, Check
from otel_oom.commands.doctor.endpoints import check_delivery
from otel_oom.commands.doctor.host import check_host
from otel_oom.commands.doctor.prediction import predict
from otel_oom.commands.doctor.rights import check_rights
from otel_oom.commands.doctor.sources import check_sources
from otel_oom.commands.doctor.units import check_units


def print_report(state_dir: Path, *, as_json: bool) -> int:
    """Run all checks and print them; return 0 if kills can be captured and sent, else 1.

    ``state_dir`` is that of an agent, if one runs.
    """
    checks = list(_checks(state_dir))
    failed = any(check.state == FAIL for check in checks)
    prediction = predict()
    if as_json:
        report = {
            "version": __version__,
            "ok": not failed,
            "checks": checks,
            "prediction": prediction,
        }
        sys.stdout.write(json.dumps(to_builtins(report), indent=2) + "\n")
    else:
        from otel_oom.commands.console.output import print_page  # noqa: PLC0415  not for --json
        from otel_oom.commands.doctor.page import render_report  # noqa: PLC0415  likewise

        print_page(render_report(checks, prediction))
    return int(failed)


def _checks(state_dir: Path) -> Iterator[Check]:
    uname = os.uname()
    yield Check("kernel", OK, f"{uname.sysname} {uname.release} {uname.machine}")
    yield from check_rights()
    yield from check_sources()
    yield from check_host()
    yield from check_units(state_dir)
    yield from check_delivery(state_dir)
