"""Inject the faults in full, and write the table of the results into docs/reliability.md.

    python -m tests.fault_injection [--short] [NAME…]

Each result is stored, so that several runs make one table: with names only these faults are
injected, and the table has all results so far.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.fault_injection import table
from tests.fault_injection.fault_list import FAULTS, Fault
from tests.fault_injection.tally import Tally
from tests.testlib.repository import REPOSITORY

_KEPT: Final = REPOSITORY / "build" / "faults"


def main() -> int:
    """Inject the named faults, by default all; return 1 if a kill was lost."""
    words = argparse.ArgumentParser()
    words.add_argument("names", nargs="*", metavar="NAME", help=", ".join(f.name for f in FAULTS))
    words.add_argument("--short", action="store_true", help="as in `make test`, and keep nothing")
    given = words.parse_args()
    # What is mounted, started and made is to be ended by SIGTERM as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = [fault for fault in FAULTS if not given.names or fault.name in given.names]
    lost = sum(_inject(fault, short=given.short) for fault in chosen)
    results = {
        fault.description: _read_result(fault) for fault in FAULTS if _result_file(fault).exists()
    }
    if len(results) == len(FAULTS) and not given.short:
        table.write(results)
    return int(bool(lost))


def _inject(fault: Fault, *, short: bool) -> int:
    """Inject a fault; return the number of lost kills."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="otel-oom-faults-") as folder:
        tally = fault.run(Path(folder), short=short)
    print(f"{fault.name}: {tally}, {time.monotonic() - began:.0f} s", flush=True)
    if not short:
        _KEPT.mkdir(parents=True, exist_ok=True)
        _result_file(fault).write_text(json.dumps(asdict(tally)), encoding="utf-8")
    return tally.lost


def _result_file(fault: Fault) -> Path:
    return _KEPT / f"{fault.name}.json"


def _read_result(fault: Fault) -> Tally:
    return Tally(**json.loads(_result_file(fault).read_text(encoding="utf-8")))


if __name__ == "__main__":
    sys.exit(main())
