"""A real vmalert on loopback, which evaluates rules on VictoriaLogs every second."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.testlib.process import LOOPBACK, ServerProcess, free_port, run_server
from tests.testlib.servers.web import http_get, is_ok


@dataclass(frozen=True)
class Vmalert:
    """A running vmalert with its API."""

    process: ServerProcess
    url: str
    """Base URL."""

    def alerts(self) -> list[Mapping[str, str]]:
        """Return the labels of the alerts that fire."""
        reply = http_get(f"{self.url}/api/v1/alerts").json()
        alerts = reply["data"]["alerts"]
        return [alert["labels"] for alert in alerts if alert["state"] == "firing"]

    def annotations(self, alert: str, **labels: str) -> Mapping[str, str]:
        """Return the annotations of a firing alert with these labels."""
        reply = http_get(f"{self.url}/api/v1/alerts").json()
        (found,) = (
            each["annotations"]
            for each in reply["data"]["alerts"]
            if {"alertname": alert, **labels}.items() <= each["labels"].items()
        )
        return dict(found)

    def errors(self) -> list[str]:
        """Return the last errors of rules."""
        groups = http_get(f"{self.url}/api/v1/rules").json()["data"]["groups"]
        return [
            rule["lastError"] for group in groups for rule in group["rules"] if rule["lastError"]
        ]


@contextmanager
def run_vmalert(binary: Path, rules: Path, datasource: str) -> Iterator[Vmalert]:
    """Run the binary from `build_binary("vmalert")` with the rules in a file.

    Raises:
        ServerError: it did not start; says why.
    """
    content = yaml.safe_load(rules.read_text(encoding="utf-8"))
    for group in content["groups"]:
        group["interval"] = "1s"
    address = f"{LOOPBACK}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="vmalert-") as temporary:
        folder = Path(temporary)
        file = folder / "rules.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
        flags = [
            f"-rule={file}",
            f"-datasource.url={datasource}",
            f"-httpListenAddr={address}",
            "-rule.evalDelay=0s",
            "-notifier.blackhole",
        ]
        with run_server(
            "vmalert",
            [binary, *flags],
            folder=folder,
            ready=lambda _: is_ok(f"http://{address}/health"),
        ) as process:
            yield Vmalert(process, f"http://{address}")
