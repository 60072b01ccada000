"""The kernel's reports of kills in pods: whose limit it was, and whom it killed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tests.testlib.kernel.oracle import KernelLog
from tests.testlib.wait import wait_until

_REPORT: Final = re.compile(
    r"^oom-kill:constraint=(?P<constraint>\w+),.*"
    r"(?:oom_memcg=(?P<limit>[^,]+)|global_oom),task_memcg=(?P<victim>[^,]+),"
    r"task=.*,pid=(?P<pid>\d+),uid=\d+$",
    re.MULTILINE,
)
_ARRIVES_S: Final = 60.0


@dataclass(frozen=True)
class Report:
    """What the kernel's line of a decision says (``dump_oom_victim()``)."""

    line: str
    limit_memcg: str | None
    victim_memcg: str
    pid: int


class Reports:
    """The reports from now on."""

    def __init__(self, log: KernelLog) -> None:
        """Read them from ``log``."""
        self._log = log
        self._reports: list[Report] = []

    def wait_for(self, container_id: str) -> Report:
        """Wait for the report of the one kill in a container."""

        def find() -> list[Report]:
            self._read()
            return [each for each in self._reports if each.victim_memcg.endswith(container_id)]

        (report,) = wait_until(find, f"the kernel's report of {container_id}", limit=_ARRIVES_S)
        return report

    def _read(self) -> None:
        for message in self._log.read_messages():
            if match := _REPORT.search(message):
                self._reports.append(
                    Report(match[0], match["limit"], match["victim"], int(match["pid"]))
                )
