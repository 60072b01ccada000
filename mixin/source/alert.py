"""An alert, and its rules for each kind of data source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

RUNBOOK: Final = "https://otel-oom.example/mixin/runbook.md"
"""Address of the page of the sections. It is no real one: `make mixin RUNBOOK=…` sets another."""


@dataclass(frozen=True)
class Alert:
    """An alert, with an expression for each data source that has what it needs.

    ``for_`` is how long an expression of Prometheus holds before the alert fires. Those of logs
    count events in a window, and fire at once.
    """

    name: str
    severity: str
    summary: str
    description: str
    prometheus: str = ""
    loki: str = ""
    victorialogs: str = ""
    for_: str = "0m"

    @property
    def anchor(self) -> str:
        """The anchor of its section in the runbook."""
        return self.name.lower()

    def rule(self, expr: str, runbook: str, for_: str = "0m") -> dict[str, Any]:
        """Return the rule with an expression, as Prometheus, Loki and vmalert read it."""
        return {
            "alert": self.name,
            "expr": expr,
            **({"for": for_} if for_ != "0m" else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbook}#{self.anchor}",
            },
        }
