"""The standard library's HTTP client, with its proxy, and without OpenSSL until TLS is needed.

To a Collector on the same host nothing is encrypted, and OpenSSL would be a seventh of the agent's
memory: 4.5 MB. ``http.client`` works without ``ssl`` if its import fails.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otel_oom.config.otlp import Endpoint, basic_auth

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Proxy", "allow_tls", "http", "proxy_for", "tls_context"]

_modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
if "ssl" in _modules:
    import http.client
else:
    _modules["ssl"] = None  # makes the import fail
    try:
        import http.client
    finally:
        del _modules["ssl"]


def allow_tls() -> None:
    """Load ``ssl`` and ``http.client.HTTPSConnection``."""
    if not hasattr(http.client, "HTTPSConnection"):
        importlib.import_module("ssl")
        importlib.reload(http.client)


def tls_context(endpoint: Endpoint) -> SSLContext:
    """Create a TLS context with the CA and client certificate of ``endpoint``."""
    import ssl  # noqa: PLC0415  see above

    context = ssl.create_default_context(cafile=endpoint.certificate)
    if endpoint.client_certificate:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return context


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and the headers for itself."""

    host: str
    port: int
    headers: dict[str, str]


def proxy_for(scheme: str, netloc: str) -> Proxy | None:
    """Return the proxy of ``HTTP_PROXY`` and the like for ``netloc`` (host and port), if any.

    Raises:
        OSError: the proxy's URL is invalid.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415  1 MB that few hosts need

    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass(netloc):
        return None
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname:
        # The value may contain a password: the message has the variable's name only.
        raise OSError(f"{scheme.upper()}_PROXY or ALL_PROXY is invalid: use an http:// URL")
    user, at, _ = parts.netloc.rpartition("@")
    headers = {"Proxy-Authorization": basic_auth(user)} if at else {}
    return Proxy(parts.hostname, port, headers)
