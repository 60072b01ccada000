"""HTTP proxies, by the variables that every HTTP client reads.

A proxy's URL may contain a password: errors name the variable alone.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from otel_oom.config.endpoint import basic_auth

_GRPC_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""In the order of gRPC's core (http_proxy_mapper.cc)."""


class Proxy(Struct, frozen=True):
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
    return _parse(url, f"{scheme.upper()}_PROXY or ALL_PROXY")


def check_grpc_proxy(netloc: str) -> None:
    """Check the proxy that gRPC itself will read. Raises OSError if its URL is invalid.

    gRPC's core would resolve a part of the password as a host name.
    """
    name = next((name for name in _GRPC_VARIABLES if os.environ.get(name)), None)
    if name:
        from urllib.request import proxy_bypass  # noqa: PLC0415  as above

        if not proxy_bypass(netloc):
            _parse(os.environ[name], name)


def _parse(url: str, name: str) -> Proxy:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or 80
        # Like the resolver, this fails for a label that is empty or too long.
        (parts.hostname or "").encode("idna")
    except ValueError:
        parts, port = urlsplit(""), 0
    # With an @ behind the host, the host is the beginning of a password.
    is_ambiguous = "@" in f"{parts.path}{parts.query}{parts.fragment}"
    if parts.scheme != "http" or not parts.hostname or is_ambiguous:
        raise OSError(f"{name} is invalid: use an http:// URL")
    user, at, _ = parts.netloc.rpartition("@")
    headers = {"Proxy-Authorization": basic_auth(user)} if at else {}
    return Proxy(parts.hostname, port, headers)
