"""Packages with entry points, as an installer leaves them in a folder of the import path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RECORDER = '''
"""Exporters that record the uids of what they get, and behave as a file says."""
import os
import time
from pathlib import Path

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class Recorder:
    results = None

    def __init__(self):
        self.folder = Path(os.environ["RECORDER_FOLDER"])

    def export(self, batch):
        uids = [self.uid(item) for item in batch]
        with (self.folder / f"{self.name}.tried").open("a") as tried:
            tried.write(" ".join(uids) + "\\n")
        mode = (self.folder / f"{self.name}.mode").read_text()
        if mode == "raise":
            raise ValueError("no such tenant")
        if mode == "fail":
            return self.results.FAILURE
        while mode == "hang":
            time.sleep(0.02)
            mode = (self.folder / f"{self.name}.mode").read_text()
        with (self.folder / f"{self.name}.has").open("a") as has:
            has.write("".join(uid + "\\n" for uid in uids))
        return self.results.SUCCESS

    def shutdown(self):
        (self.folder / f"{self.name}.shutdown").touch()

    def force_flush(self, timeout_millis=30000):
        return (self.folder / f"{self.name}.mode").read_text() != "unflushed"

class Logs(Recorder, LogRecordExporter):
    name = "logs"
    results = LogRecordExportResult

    def uid(self, item):
        return item.log_record.attributes["log.record.uid"]

class Spans(Recorder, SpanExporter):
    name = "spans"
    results = SpanExportResult

    def uid(self, item):
        return item.attributes["log.record.uid"]
'''


def add_package(folder: Path, name: str, module: str, groups: Mapping[str, str]) -> None:
    """Write a package ``name`` into ``folder``: one module, and an entry point in each group.

    The value of a group is the object in the module; the entry point has the package's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(module)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {name}:{target}\n" for group, target in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


def add_recorder(folder: Path, name: str = "recorder") -> None:
    """Write the package of :data:`RECORDER`."""
    groups = {"opentelemetry_logs_exporter": "Logs", "opentelemetry_traces_exporter": "Spans"}
    add_package(folder, name, RECORDER, groups)
