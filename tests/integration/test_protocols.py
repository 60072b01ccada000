"""The three protocols of OTLP, against a real Collector."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.config.endpoint import GRPC, HTTP, JSON
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.samples.events import sample_enriched_kill
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.web import Json
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.servers

BATCH = 3


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_all_protocols_carry_the_same_records(collector_binary: Path, compression: str) -> None:
    """Field by field, resource and scope included, in batches of several kills."""
    kill = sample_enriched_kill()
    payloads = {"logs": encode_log(kill) * BATCH, "traces": encode_span(kill) * BATCH}
    received: dict[str, list[Json]] = {}
    with run_recorder(collector_binary) as recorder:
        for protocol in (HTTP, JSON, GRPC):
            address = recorder.collector.http
            if protocol == GRPC:
                address = f"http://{recorder.collector.grpc}"
            config = read_otlp_config(
                {
                    "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                    "OTEL_EXPORTER_OTLP_ENDPOINT": address,
                    "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
                }
            )
            before = sum(map(len, received.values()))
            for endpoint in config.endpoints:
                with closing(create_transport(endpoint)) as transport:
                    response = transport.send(payloads[endpoint.signal])
                    assert response == ExportResponse(ExportResult.ACCEPTED)
            wait_until(
                lambda: (
                    recorder.file.exists() and len(recorder.requests()) == before + len(payloads)  # noqa: B023  called at once
                ),
                "both have arrived",
            )
            received[protocol] = sorted(recorder.requests()[before:], key=str)
        assert len(recorder.logs()) == len(recorder.spans()) == 3 * BATCH
    assert received[JSON] == received[HTTP] == received[GRPC]
