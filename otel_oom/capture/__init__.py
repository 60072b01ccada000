"""Where kills come from: the sources, and which to take."""

from __future__ import annotations

from otel_oom.capture.source import CaptureError, Handler, Source

__all__ = ["CaptureError", "Handler", "Source", "choose"]


def choose(name: str = "auto") -> Source:
    """The source of that name; ``auto`` is the best that this host allows."""
    from otel_oom.capture.bpf import LibbpfSource  # noqa: PLC0415  only the one chosen is loaded

    sources = {"auto": LibbpfSource, "libbpf": LibbpfSource}
    return sources[name]()
