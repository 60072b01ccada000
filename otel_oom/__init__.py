"""Every OOM kill of a Linux host as OpenTelemetry logs and spans."""

__version__ = "0.1.0"
