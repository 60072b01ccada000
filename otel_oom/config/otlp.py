"""The ``OTEL_*`` variables of the export, with the official names and defaults.

Specification: OpenTelemetry Protocol Exporter, "Configuration Options". Where the official
Python exporters differ (a timeout is in seconds), they win: the user's other Python services on
the host use them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from otel_oom.config.redaction import ADDRESS, header_secrets, redact_url, url_secrets
from otel_oom.config.variable import Variable, read_variable

SIGNALS: Final = ("logs", "traces")
HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_SCOPES: Final = ("", "LOGS_", "TRACES_", "METRICS_")
_OPTIONS: Final = (
    *("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION"),
    *("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "INSECURE"),
)
_METRICS_ONLY: Final = frozenset(
    f"{_PREFIX}METRICS_{option}"
    for option in ("TEMPORALITY_PREFERENCE", "DEFAULT_HISTOGRAM_AGGREGATION")
)
_DEFAULT_URL: Final = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}
_DEFAULT_TIMEOUT_S: Final = "10"
_HEADER: Final = {
    HTTP: re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\n[^\x00-\x08\x0a-\x1f\x7f]*"),
    GRPC: re.compile(r"[0-9A-Za-z_.-]+\n[ -~]*"),
}
"""Name and value, one line each, in the characters that the protocol carries. gRPC fails on others
as if the server had rejected the message: they must be reported before anything is sent."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Destination of one signal; ``timeout_s`` limits one request."""

    signal: str
    protocol: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 10.0
    gzip: bool = False
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None

    @property
    def secure(self) -> bool:
        """Return true for TLS."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """Return host and port, which exporters of several signals share."""
        return urlsplit(self.url).netloc.lower()

    @property
    def redacted_url(self) -> str:
        """Return scheme, host and port: all that is ever shown."""
        return redact_url(self.url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return what may be secret in the URL and the headers."""
        return (
            *url_secrets(self.url, f"/v1/{self.signal}"),
            *header_secrets(value for _, value in self.headers),
        )


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """Endpoints of all signals, attributes of the host, and the main switch.

    ``detectors`` are the names of the resource detectors that describe the host.
    """

    endpoints: tuple[Endpoint, ...]
    resource: Mapping[str, str]
    disabled: bool
    detectors: tuple[str, ...] = ()


def read_otlp_config(environ: Mapping[str, str]) -> OtlpConfig:
    """Return the settings in ``environ``. Raises ConfigError."""
    # The manifest of a pod passes the name of its node.
    node = read_variable(environ, "K8S_NODE_NAME").text
    resource = dict(read_variable(environ, "OTEL_RESOURCE_ATTRIBUTES").pairs())
    detectors = read_variable(environ, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS").text.split(",")
    return OtlpConfig(
        endpoints=tuple(read_endpoint(environ, signal) for signal in SIGNALS),
        resource={**({"k8s.node.name": node} if node else {}), **resource},
        disabled=read_variable(environ, "OTEL_SDK_DISABLED").flag(),
        # `otel` is the SDK's own detector, for OTEL_RESOURCE_ATTRIBUTES.
        detectors=tuple(n.strip() for n in detectors if n.strip() not in {"", "otel"}),
    )


def otlp_variables() -> frozenset[str]:
    """Return all variables of the official OTLP exporters."""
    common = frozenset(f"{_PREFIX}{scope}{option}" for scope in _SCOPES for option in _OPTIONS)
    return common | _METRICS_ONLY


def unknown_otlp_variables(environ: Mapping[str, str]) -> list[str]:
    """Return misspelt variables: those with the prefix of the exporters that none reads."""
    return sorted(
        name for name in environ if name.startswith(_PREFIX) and name not in otlp_variables()
    )


def read_endpoint(environ: Mapping[str, str], signal: str) -> Endpoint:
    """Return the endpoint of ``signal``, whose own variables win. Raises ConfigError."""
    own_prefix = f"{_PREFIX}{signal.upper()}_"

    def read(option: str, default: str = "") -> Variable:
        names = (own_prefix + option, _PREFIX + option)
        return read_variable(environ, *names, default=default)

    protocol = read("PROTOCOL", HTTP)
    if protocol.text not in _DEFAULT_URL:
        raise protocol.error(f"{HTTP} or {GRPC}")
    address = read("ENDPOINT", _DEFAULT_URL[protocol.text])
    if protocol.text == GRPC:
        url = _grpc_url(address, insecure=read("INSECURE").flag())
    else:
        url = _http_url(address, "" if address.name.startswith(own_prefix) else f"/v1/{signal}")
    headers = read("HEADERS").pairs(_HEADER[protocol.text])
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    if at and not any(name.lower() == "authorization" for name, _ in headers):
        headers = (*headers, ("Authorization", basic_auth(user)))
    key, chain = read("CLIENT_KEY"), read("CLIENT_CERTIFICATE")
    if key.text and not chain.text:
        raise key.error(f"the key of a certificate, which {chain.name} names")
    timeout = read("TIMEOUT", _DEFAULT_TIMEOUT_S)
    return Endpoint(
        signal=signal,
        protocol=protocol.text,
        url=urlunsplit(parts._replace(netloc=netloc)),
        headers=headers,
        timeout_s=timeout.positive(TIMEOUT_MAX, "a positive number of seconds, such as 10"),
        gzip=read("COMPRESSION", "none").choice("gzip", "none") == "gzip",
        certificate=_read_pem_path(read("CERTIFICATE")),
        client_key=_read_pem_path(key),
        client_certificate=_read_pem_path(chain),
    )


def basic_auth(user: str) -> str:
    """Return the header value for the ``user:password`` of a URL (RFC 7617)."""
    return "Basic " + b64encode(unquote(user).encode("utf-8", "surrogateescape")).decode()


def _http_url(value: Variable, path: str) -> str:
    parts = _split_url(value, value.text)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path if path else parts.path))


def _grpc_url(value: Variable, *, insecure: bool) -> str:
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
