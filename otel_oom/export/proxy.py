"""The proxy of ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from otel_oom.config.otlp import basic_auth


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and the headers for itself."""

    host: str
    port: int
    headers: dict[str, str]


def proxy_for(scheme: str, netloc: str) -> Proxy | None:
    """Return the proxy for requests to ``netloc`` (host and port), or ``None``.

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
