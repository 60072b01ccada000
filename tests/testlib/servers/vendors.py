"""What the documentation of each vendor says of its OTLP endpoints (read on 2026-11-28).

The files in collector-config/vendors/ name the pages.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Vendor:
    """Endpoint and headers of a vendor, with the credentials of an imaginary customer."""

    environ: Mapping[str, str]
    """Variables of the file for the Collector."""
    urls: Mapping[str, str]
    """Full URL by signal; a signal without one is not sent."""
    headers: Mapping[str, str]
    is_signed: bool = field(default=False, kw_only=True)
    """AWS: the Collector signs each request, where the agent has a token."""


def _all_below(base: str) -> dict[str, str]:
    return {signal: f"{base}/v1/{signal}" for signal in ("logs", "traces", "metrics")}


_BASIC: Final = b64encode(b"123456:glc_token").decode()
_GRAFANA: Final = "https://otlp-gateway-prod-eu-west-2.grafana.net/otlp"
_DYNATRACE: Final = "https://abc12345.live.dynatrace.com/api/v2/otlp"
_ELASTIC: Final = "https://my-project.ingest.eu-west-1.aws.elastic.cloud"
_SPLUNK: Final = "https://ingest.us0.signalfx.com/v2"
_AZURE: Final = "https://otel.ingest.monitor.azure.com/datacollectionRules/dcr-1"

VENDORS: Final[Mapping[str, Vendor]] = {
    "grafana-cloud": Vendor(
        {
            "GRAFANA_CLOUD_URL": _GRAFANA,
            "GRAFANA_CLOUD_INSTANCE_ID": "123456",
            "GRAFANA_CLOUD_TOKEN": "glc_token",
        },
        _all_below(_GRAFANA),
        {"Authorization": f"Basic {_BASIC}"},
    ),
    "honeycomb": Vendor(
        {"HONEYCOMB_API_KEY": "KEY"},
        _all_below("https://api.honeycomb.io"),
        {"x-honeycomb-team": "KEY"},
    ),
    "new-relic": Vendor(
        {"NEW_RELIC_LICENSE_KEY": "KEY"},
        _all_below("https://otlp.nr-data.net"),
        {"api-key": "KEY"},
    ),
    "dynatrace": Vendor(
        {"DYNATRACE_URL": _DYNATRACE, "DYNATRACE_API_TOKEN": "TOKEN"},
        _all_below(_DYNATRACE),
        {"Authorization": "Api-Token TOKEN"},
    ),
    "datadog": Vendor(
        {"DD_API_KEY": "KEY"},
        {
            "logs": "https://otlp.datadoghq.com/v1/logs",
            "metrics": "https://otlp.datadoghq.com/v1/metrics",
        },
        {"dd-api-key": "KEY"},
    ),
    "elastic": Vendor(
        {"ELASTIC_OTLP_URL": _ELASTIC, "ELASTIC_API_KEY": "KEY"},
        _all_below(_ELASTIC),
        {"Authorization": "ApiKey KEY"},
    ),
    "splunk": Vendor(
        {"SPLUNK_REALM": "us0", "SPLUNK_ACCESS_TOKEN": "TOKEN"},
        {"traces": f"{_SPLUNK}/trace/otlp", "metrics": f"{_SPLUNK}/datapoint/otlp"},
        {"X-SF-Token": "TOKEN"},
    ),
    "google": Vendor(
        {"GOOGLE_CLOUD_PROJECT": "my-project"},
        _all_below("https://telemetry.googleapis.com"),
        {"Authorization": "Bearer TOKEN", "x-goog-user-project": "my-project"},
    ),
    "aws": Vendor(
        {
            "AWS_REGION": "us-west-2",
            "AWS_LOG_GROUP": "/otel-oom",
            "AWS_LOG_STREAM": "oom",
            "AWS_ACCESS_KEY_ID": "KEY",
            "AWS_SECRET_ACCESS_KEY": "SECRET",
        },
        {
            "logs": "https://logs.us-west-2.amazonaws.com/v1/logs",
            "traces": "https://xray.us-west-2.amazonaws.com/v1/traces",
        },
        {
            "Authorization": "Bearer TOKEN",
            "x-aws-log-group": "/otel-oom",
            "x-aws-log-stream": "oom",
        },
        is_signed=True,
    ),
    "azure": Vendor(
        {"AZURE_RULE_URL": _AZURE},
        {
            "logs": f"{_AZURE}/streams/Microsoft-OTLP-Logs/otlp/v1/logs",
            "traces": f"{_AZURE}/streams/Microsoft-OTLP-Traces/otlp/v1/traces",
        },
        {"Authorization": "Bearer TOKEN"},
    ),
}
"""By the name of the file in collector-config/vendors/."""
