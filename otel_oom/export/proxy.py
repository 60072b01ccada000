"""The proxy that the usual variables name: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from otel_oom.config.endpoint import basic_auth


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and the headers that it wants for itself."""

    host: str
    port: int
    headers: dict[str, str]


def proxy_for(scheme: str, netloc: str) -> Proxy | None:
    """The proxy on the way to ``netloc``, host and port, if there is one.

    Raises:
        OSError: a proxy is named that can't be used.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Imported here, for it costs a megabyte that few hosts need.
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415

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
        # Its value may hold a password: the variable's name has to do.
        raise OSError(f"{scheme.upper()}_PROXY or ALL_PROXY is no http:// URL of a proxy")
    user, at, _ = parts.netloc.rpartition("@")
    headers = {"Proxy-Authorization": basic_auth(user)} if at else {}
    return Proxy(parts.hostname, port, headers)
