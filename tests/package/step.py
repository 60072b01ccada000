"""What the script left of each of its steps."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """The files of a step in its folder, as dpkg, systemd, bpftool and the kernel wrote them."""

    folder: Path

    def text(self, name: str) -> str:
        """Return the content of a file."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace").strip()

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file."""
        return self.text(name).splitlines()

    def unit(self) -> dict[str, str]:
        """Return the properties of the service by systemctl."""
        return dict(line.partition("=")[::2] for line in self.lines("unit"))

    def programs(self) -> set[str]:
        """Return the names of the loaded BPF programs by bpftool, without systemd's own."""
        names = {str(each.get("name")) for each in json.loads(self.text("programs"))}
        return {name for name in names if not name.startswith("sd_")}

    def listed_pids(self) -> list[int]:
        """Return the victims that `otel-oom events` lists, oldest first."""
        return [
            int(attribute["value"]["intValue"])
            for line in self.lines("events")
            for resource in json.loads(line)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
            for attribute in record["attributes"]
            if attribute["key"] == "process.pid"
        ]

    def killed_pids(self) -> list[int]:
        """Return the victims by the kernel's log, oldest first."""
        return [int(pid) for pid in re.findall(r"Killed process (\d+)", self.text("kernel"))]

    def kernel_count(self) -> int:
        """Return the kernel's own count of its kills."""
        return int(self.text("vmstat").split()[1])

    def journal(self) -> list[dict[str, Any]]:
        """Return the service's records in the journal."""
        return [json.loads(line) for line in self.lines("journal")]
