"""The destination of one signal, by the variables of the OTLP exporters.

Specification: OpenTelemetry Protocol Exporter, "Configuration Options". An invalid value that would
send data elsewhere, or unprotected, is an error. Any other is ignored with a warning.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from msgspec import Struct

from otel_oom.config.redaction import ADDRESS, header_secrets, redact_url, url_secrets
from otel_oom.config.variable import ConfigError, Variable, Warn, read_variable

HTTP: Final = "http/protobuf"
JSON: Final = "http/json"
GRPC: Final = "grpc"

PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_DEFAULT_URL: Final = {
    HTTP: "http://localhost:4318",
    JSON: "http://localhost:4318",
    GRPC: "http://localhost:4317",
}
_DEFAULT_TIMEOUT: Final = "10"
_MAX_TIMEOUT_S: Final = 600.0
"""A longer timeout is in milliseconds: see :func:`_read_timeout_s`."""
_MAX_TIMEOUT_MS: Final = 1e6 * _MAX_TIMEOUT_S
_MS_PER_S: Final = 1000
_NATIVE_TARGET: Final = re.compile(r"(?:unix|dns|ipv4|ipv6):[!-~]+", re.IGNORECASE)
"""Addresses of gRPC itself ("gRPC Name Resolution")."""
_HEADER: Final = {
    HTTP: re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\n[^\x00-\x08\x0a-\x1f\x7f]*"),
    GRPC: re.compile(r"[0-9A-Za-z_.-]+\n[ -~]*"),
}
"""Name and value, one line each, in the characters that the protocol carries. gRPC fails on others
as if the server had rejected the message: they must be reported before anything is sent."""


class Endpoint(Struct, frozen=True):
    """Destination of one signal; ``timeout_s`` limits one request.

    ``url`` is a URL, or an address of gRPC itself, such as ``unix:/run/otlp.sock``.
    """

    signal: str
    protocol: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 10.0
    gzip: bool = False
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None
    insecure: bool = False
    """No TLS for an address of gRPC itself; the scheme of a URL decides alone."""

    @property
    def channel(self) -> str:
        """Return its channel in the outbox: OTLP has the signal's own."""
        return self.signal

    @property
    def secure(self) -> bool:
        """Return true for TLS."""
        return self.url.startswith("https:") or not (self.insecure or self.url.startswith("http:"))

    @property
    def target(self) -> str:
        """Return the address for gRPC: host and port, or its own form."""
        return self.url if _NATIVE_TARGET.fullmatch(self.url) else urlsplit(self.url).netloc

    @property
    def host(self) -> str:
        """Return the destination, which exporters of several signals share."""
        return self.target.lower()

    @property
    def redacted_url(self) -> str:
        """Return scheme, host and port: all that is ever shown. A path of a socket is no secret."""
        return self.url if _NATIVE_TARGET.fullmatch(self.url) else redact_url(self.url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what may be secret in the URL and the headers."""
        of_url = () if self.url == self.target else url_secrets(self.url, f"/v1/{self.signal}")
        return (*of_url, *header_secrets(value for _, value in self.headers))


def read_endpoint(
    environ: Mapping[str, str], signal: str, warn: Warn, protocol: str = ""
) -> Endpoint:
    """Return the endpoint of ``signal``, whose own variables win.

    ``protocol`` is that of the exporter's name, if any, and wins over the variables. ``warn`` gets
    a sentence for each value that is ignored. Raises ConfigError for others.
    """
    own_prefix = f"{PREFIX}{signal.upper()}_"

    def read(option: str, default: str = "") -> Variable:
        names = (own_prefix + option, PREFIX + option)
        return read_variable(environ, *names, default=default)

    protocol = protocol or read("PROTOCOL", HTTP).choice_or_warn(warn, HTTP, JSON, GRPC)
    address = read("ENDPOINT", _DEFAULT_URL[protocol])
    insecure = read("INSECURE")
    if protocol == GRPC:
        _require_grpc(signal)
        url = _grpc_url(address, insecure=insecure.flag_or_warn(warn))
    else:
        url = _http_url(address, "" if address.name.startswith(own_prefix) else f"/v1/{signal}")
    headers = read("HEADERS").pairs(_HEADER[GRPC if protocol == GRPC else HTTP])
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    if at and not any(name.lower() == "authorization" for name, _ in headers):
        headers = (*headers, ("Authorization", basic_auth(user)))
    key, chain = read("CLIENT_KEY"), read("CLIENT_CERTIFICATE")
    if key.text and not chain.text:
        raise key.error(f"the key of a certificate, which {chain.name} names")
    return Endpoint(
        signal=signal,
        protocol=protocol,
        url=urlunsplit(parts._replace(netloc=netloc)) if at else url,
        headers=headers,
        timeout_s=_read_timeout_s(read("TIMEOUT", _DEFAULT_TIMEOUT), warn),
        gzip=read("COMPRESSION", "none").choice_or_warn(warn, "none", "gzip") == "gzip",
        certificate=_read_pem_path(read("CERTIFICATE")),
        client_key=_read_pem_path(key),
        client_certificate=_read_pem_path(chain),
        insecure=_is_native_insecure(url, insecure, warn),
    )


def _require_grpc(signal: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415  HTTP needs no search

    if find_spec("grpc") is None:
        raise ConfigError(
            f"OTLP/gRPC for {signal} needs a package that is not installed: run pip install "
            f"'otel-oom[grpc]', or set {PREFIX}PROTOCOL={HTTP}."
        )


def basic_auth(user: str) -> str:
    """Return the header value for the ``user:password`` of a URL (RFC 7617)."""
    return "Basic " + b64encode(unquote(user).encode("utf-8", "surrogateescape")).decode()


def _read_timeout_s(value: Variable, warn: Warn) -> float:
    """Return the timeout in seconds.

    The specification has milliseconds, and Python's official exporters have seconds. No request
    takes ten minutes or more, and none ends within a second by intent: so the number decides.
    """
    accepted = f"seconds up to {_MAX_TIMEOUT_S:.0f}, or milliseconds above"
    number = value.positive_or_warn(warn, _MAX_TIMEOUT_MS, accepted, float(_DEFAULT_TIMEOUT))
    if number <= _MAX_TIMEOUT_S:
        return number
    seconds = number / _MS_PER_S
    warn(f"{value.name}={value.text} is read as milliseconds: a request may take {seconds:g} s.")
    return seconds


def _is_native_insecure(url: str, insecure: Variable, warn: Warn) -> bool:
    """Return whether an address of gRPC itself is without TLS; a Unix socket is by default."""
    if not _NATIVE_TARGET.fullmatch(url):
        return False
    is_local = url.lower().startswith("unix:") and not insecure.text
    return is_local or insecure.flag_or_warn(warn)


def _http_url(value: Variable, path: str) -> str:
    parts = _split_url(value, value.text)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path if path else parts.path))


def _grpc_url(value: Variable, *, insecure: bool) -> str:
    if _NATIVE_TARGET.fullmatch(value.text):
        return value.text
    url = value.text if "://" in value.text else f"http{'' if insecure else 's'}://{value.text}"
    return urlunsplit(_split_url(value, url))


def _split_url(value: Variable, url: str) -> SplitResult:
    accepted = "a URL such as http://localhost:4318 or https://otlp.example.com"
    try:
        parts = urlsplit(url)
        port = parts.port
        # Like the resolver, this fails for a label that is empty or too long.
        host = (parts.hostname or "").encode("idna")
    except ValueError:
        raise value.error(accepted, redact_url) from None
    is_address = ADDRESS.fullmatch(parts.netloc.rpartition("@")[2])
    if parts.scheme not in {"http", "https"} or not host or port == 0 or not is_address:
        raise value.error(accepted, redact_url)
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    # With a raw @ there, the host may be the beginning of a password.
    if not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", url) or not rest.isascii() or "@" in rest:
        accepted = f"{accepted}, with @, spaces and non-ASCII characters percent-encoded"
        raise value.error(accepted, redact_url)
    return parts


def _read_pem_path(value: Variable) -> Path | None:
    if not value.text:
        return None
    path = Path(value.text)
    try:
        pem = path.is_file() and b"-----BEGIN " in path.read_bytes()
    except (OSError, ValueError):
        pem = False
    if not pem:
        raise value.error("the path of a file in PEM format that can be read")
    return path
