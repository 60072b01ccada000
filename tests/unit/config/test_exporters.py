"""The exporters of each signal: OTLP, and those of installed packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from otel_oom.config.exporters import InstalledExporter
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.variable import ConfigError


def console(signal: str, timeout_s: float = 30.0) -> InstalledExporter:
    return InstalledExporter(signal, "console", timeout_s)


@pytest.mark.parametrize(
    ("names", "endpoints", "exporters"),
    [
        ("otlp,console", ["http/protobuf"], [console("logs")]),
        ("console, otlp_proto_grpc", ["grpc"], [console("logs")]),
        ("Console,CONSOLE", [], [console("logs")]),
        ("console", [], [console("logs")]),
        ("otlp,OTLP", ["http/protobuf"], []),
    ],
)
def test_a_list_has_each_exporter_once(
    names: str, endpoints: list[str], exporters: list[InstalledExporter]
) -> None:
    """Without regard to case and blanks."""
    read = read_otlp_config({"OTEL_LOGS_EXPORTER": names, "OTEL_TRACES_EXPORTER": "none"})
    assert [endpoint.protocol for endpoint in read.endpoints] == endpoints
    assert list(read.exporters) == exporters
    assert read.signals == {"logs"}


def test_each_exporter_of_a_signal_has_a_channel() -> None:
    environ = {"OTEL_LOGS_EXPORTER": "console,otlp", "OTEL_TRACES_EXPORTER": "console"}
    read = read_otlp_config(environ)
    assert read.channels == {"logs": ("logs", "logs:console"), "traces": ("traces:console",)}
    off = read_otlp_config({**environ, "OTEL_TRACES_SAMPLER": "always_off"})
    assert off.channels == {"logs": ("logs", "logs:console")}


@pytest.mark.parametrize(
    "names", ["none,console", "console,none", "otlp_proto_http,otlp_proto_grpc", ","]
)
def test_a_list_that_contradicts_itself_is_an_error(names: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_LOGS_EXPORTER"):
        read_otlp_config({"OTEL_LOGS_EXPORTER": names})


def test_an_error_names_what_is_installed() -> None:
    with pytest.raises(ConfigError, match="otlp_proto_grpc or console"):
        read_otlp_config({"OTEL_TRACES_EXPORTER": "zipkin"})


@pytest.mark.parametrize(
    ("environ", "timeouts", "warned"),
    [
        ({"OTEL_BLRP_EXPORT_TIMEOUT": "1500"}, [1.5, 30.0], False),
        ({"OTEL_BSP_EXPORT_TIMEOUT": "250"}, [30.0, 0.25], False),
        ({"OTEL_BLRP_EXPORT_TIMEOUT": "soon"}, [30.0, 30.0], True),
        ({"OTEL_BSP_EXPORT_TIMEOUT": "600001"}, [30.0, 30.0], True),
    ],
)
def test_one_call_is_bounded(
    environ: Mapping[str, str], timeouts: list[float], *, warned: bool
) -> None:
    """By the variables of the SDK's processors, in milliseconds."""
    names = {"OTEL_LOGS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "console"}
    warnings: list[str] = []
    read = read_otlp_config({**names, **environ}, warnings.append)
    assert [exporter.timeout_s for exporter in read.exporters] == timeouts
    assert bool(warnings) == warned


def test_otlp_alone_searches_no_installed_packages() -> None:
    """It would take time and memory of each agent."""
    program = (
        "import sys; from otel_oom.config.otlp import read_otlp_config;"
        "read_otlp_config({'OTEL_LOGS_EXPORTER': 'otlp', 'OTEL_TRACES_EXPORTER': 'none'});"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"
