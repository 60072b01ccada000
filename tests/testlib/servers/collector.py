"""A real OpenTelemetry Collector on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.process import LOOPBACK, ServerProcess, free_port, run_server

Config = Path | Mapping[str, object]
"""A configuration: a file, or its content."""

_READY = "Everything is ready. Begin running and processing data."


@dataclass(frozen=True)
class Collector:
    """A running Collector.

    Its addresses hold for configurations that read the variables OTLP_GRPC_LISTEN,
    OTLP_HTTP_LISTEN and HEALTH_LISTEN, as those in collector-config/ do.
    """

    process: ServerProcess
    grpc: str
    """OTLP/gRPC, as host:port."""
    http: str
    """OTLP/HTTP, as a base URL without /v1."""
    health: str
    """URL of health_check, which replies 200 while the Collector is healthy."""
    metrics: str
    """URL of its own metrics, in the text format of Prometheus."""


@contextmanager
def run_collector(
    binary: Path,
    *configs: Config,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Collector]:
    """Run a Collector with configurations, which are merged in this order.

    Args:
        binary: from `build_binary("collector")`.
        configs: files, or content.
        env: variables for the configurations. OTLP_GRPC_LISTEN, OTLP_HTTP_LISTEN and
            HEALTH_LISTEN are free ports on 127.0.0.1 unless given here as host:port.
        folder: its working folder, for a test that starts it again on the same files; by default
            a temporary one.

    Raises:
        ServerError: it did not start; says why.
    """
    listeners = ("OTLP_GRPC_LISTEN", "OTLP_HTTP_LISTEN", "HEALTH_LISTEN")
    variables = {name: f"{LOOPBACK}:{free_port()}" for name in listeners} | dict(env or {})
    metrics_port = free_port()
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="collector-")))
        files = _files(folder, [*configs, _telemetry(metrics_port)])
        process = stack.enter_context(
            run_server(
                "collector",
                [binary, *_options(files)],
                folder=folder,
                env=variables,
                ready=_readiness(folder / "collector.log"),
            )
        )
        yield Collector(
            process,
            grpc=variables["OTLP_GRPC_LISTEN"],
            http=f"http://{variables['OTLP_HTTP_LISTEN']}",
            health=f"http://{variables['HEALTH_LISTEN']}/",
            metrics=f"http://{LOOPBACK}:{metrics_port}/metrics",
        )


def validate_configs(binary: Path, *configs: Path, env: Mapping[str, str] | None = None) -> str:
    """Return the output of `otelcol validate`, which is empty for valid files.

    Warnings count too, such as that of a deprecated name or an unset variable.
    """
    done = subprocess.run(
        [binary, "validate", *_options(configs)],
        env={"PATH": os.defpath, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or (f"exit code {done.returncode}" if done.returncode else "")


def _options(files: Sequence[Path]) -> list[str]:
    return [f"--config={file}" for file in files]


def _files(folder: Path, configs: Sequence[Config]) -> list[Path]:
    files = []
    for number, config in enumerate(configs):
        if isinstance(config, Path):
            files.append(config)
        else:
            file = folder / f"config-{number}.yaml"
            file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
            files.append(file)
    return files


def _telemetry(port: int) -> dict[str, object]:
    """Move the Collector's own metrics from port 8888, which a second one could not bind."""
    exporter = {"prometheus": {"host": LOOPBACK, "port": port}}
    reader = {"pull": {"exporter": exporter}}
    return {"service": {"telemetry": {"metrics": {"readers": [reader]}}}}


def _readiness(log: Path) -> Callable[[ServerProcess], bool]:
    """Return a check for the line of its log that says that all components have started."""
    earlier = log.stat().st_size if log.exists() else 0  # by a run in the same folder
    return lambda process: _READY.encode() in process.log.read_bytes()[earlier:]
