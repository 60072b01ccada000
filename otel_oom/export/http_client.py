"""The standard library's HTTP client, without OpenSSL until somebody needs it.

Next to a Collector on the same host nothing is encrypted, and OpenSSL would be a seventh of the
agent's memory: 4.5 MB. ``http.client`` takes it where it can be imported, and goes without it
where it can't.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ["allow_tls", "http"]

_modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
if "ssl" in _modules:
    import http.client
else:
    _modules["ssl"] = None  # how an import is refused
    try:
        import http.client
    finally:
        del _modules["ssl"]


def allow_tls() -> None:
    """See that ``http.client.HTTPSConnection`` is there."""
    if not hasattr(http.client, "HTTPSConnection"):
        importlib.import_module("ssl")
        importlib.reload(http.client)
