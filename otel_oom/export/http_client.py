"""The standard library's HTTP client, without OpenSSL until TLS is needed.

To a Collector on the same host nothing is encrypted, and OpenSSL would be a seventh of the agent's
memory: 4.5 MB. ``http.client`` works without ``ssl`` if its import fails.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from otel_oom.config.endpoint import Endpoint

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["http", "tls_context"]

_modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
if "ssl" in _modules:
    import http.client
else:
    _modules["ssl"] = None  # makes the import fail
    try:
        import http.client
    finally:
        del _modules["ssl"]


def tls_context(endpoint: Endpoint) -> SSLContext:
    """Create a TLS context with the CA and client certificate of ``endpoint``."""
    import ssl  # noqa: PLC0415  see above

    context = ssl.create_default_context(cafile=endpoint.certificate)
    if endpoint.client_certificate:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return context
