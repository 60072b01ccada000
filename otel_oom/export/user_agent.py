"""The User-Agent of requests.

Specification: OpenTelemetry Protocol Exporter, "User Agent": a distribution's own identifier, then
that of the exporter, with the version of the official package whose encoding is sent.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.exporter.otlp.proto.common.version import __version__ as _exporter_version

from otel_oom import __version__

USER_AGENT: Final = f"otel-oom/{__version__} OTel-OTLP-Exporter-Python/{_exporter_version}"
