"""The ``OTEL_*`` variables into endpoints, with the official names and defaults.

Specification: OpenTelemetry Protocol Exporter, "Configuration Options". Where the official
Python exporters read a variable otherwise (a timeout is in seconds), theirs holds: it is what
the user's other Python services on the host do.
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

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"

_PREFIX: Final = "OTEL_EXPORTER_OTLP_"
_SCOPES: Final = ("", "LOGS_", "TRACES_", "METRICS_")
_OPTIONS: Final = (
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "CERTIFICATE",
    "CLIENT_KEY",
    "CLIENT_CERTIFICATE",
    "INSECURE",
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
"""Name and value, a line each, as a protocol can carry them. gRPC answers others as a server
would that refuses a message for good: they must be found before anything is sent."""
_CREDENTIALS: Final = re.compile(r"(?<=://).*@|^(?!.*://).*@")


class SettingsError(ValueError):
    """A setting can't be used; the message names the variable and what it takes."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one signal is sent; ``timeout_s`` is seconds for one request."""

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
        """Whether TLS is used."""
        return self.url.startswith("https:")

    @property
    def host(self) -> str:
        """Where it is, host and port: what all that is sent there shares."""
        return urlsplit(self.url).netloc.lower()

    @property
    def shown(self) -> str:
        """The URL as it may be shown: without user, password and query."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's text and the name under which the user set it."""

    name: str
    text: str

    def wrong(self, takes: str) -> SettingsError:
        """Return the error that says what the variable takes, without credentials."""
        shown = _CREDENTIALS.sub("", self.text)
        return SettingsError(f"{self.name}={shown!r} can't be used: it takes {takes}.")


def known_variables() -> frozenset[str]:
    """Every variable of the official OTLP exporters."""
    common = frozenset(f"{_PREFIX}{scope}{option}" for scope in _SCOPES for option in _OPTIONS)
    return common | _METRICS_ONLY


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like the exporters' and are none: most likely misspelt."""
    return sorted(
        name for name in environ if name.startswith(_PREFIX) and name not in known_variables()
    )


def endpoint(environ: Mapping[str, str], signal: str) -> Endpoint:
    """Where one signal goes, by its own variables and the general ones.

    Raises:
        SettingsError: a value can't be used.
    """

    def get(option: str, default: str = "") -> Variable:
        # An empty value is as good as none (Environment Variable Specification).
        for name in (f"{_PREFIX}{signal.upper()}_{option}", f"{_PREFIX}{option}"):
            if environ.get(name, "").strip():
                return Variable(name, environ[name].strip())
        return Variable(f"{_PREFIX}{option}", default)

    protocol = get("PROTOCOL", HTTP)
    if protocol.text not in _DEFAULT_URL:
        raise protocol.wrong(f"{HTTP} or {GRPC}")
    own = get("ENDPOINT").name == f"{_PREFIX}{signal.upper()}_ENDPOINT"
    url = (
        _grpc_url(get("ENDPOINT", _DEFAULT_URL[GRPC]), insecure=parse_flag(get("INSECURE")))
        if protocol.text == GRPC
        else _http_url(get("ENDPOINT", _DEFAULT_URL[HTTP]), "" if own else f"/v1/{signal}")
    )
    headers = parse_pairs(get("HEADERS"), _HEADER[protocol.text])
    parts = urlsplit(url)
    user, at, netloc = parts.netloc.rpartition("@")
    if at and not any(name.lower() == "authorization" for name, _ in headers):
        headers = (*headers, ("Authorization", basic_auth(user)))
    key, chain = get("CLIENT_KEY"), get("CLIENT_CERTIFICATE")
    if key.text and not chain.text:
        raise key.wrong(f"the key of a certificate, which {chain.name} names")
    return Endpoint(
        signal=signal,
        protocol=protocol.text,
        url=urlunsplit(parts._replace(netloc=netloc)),
        headers=headers,
        timeout_s=_seconds(get("TIMEOUT", _DEFAULT_TIMEOUT_S)),
        gzip=_gzip(get("COMPRESSION", "none")),
        certificate=_file(get("CERTIFICATE")),
        client_key=_file(key),
        client_certificate=_file(chain),
    )


def basic_auth(user: str) -> str:
    """The header's value for ``user:password`` as it stands in a URL (RFC 7617)."""
    return "Basic " + b64encode(unquote(user).encode()).decode()


def _http_url(value: Variable, path: str) -> str:
    """The URL to POST to: a signal's own endpoint as it is, the general one with the path."""
    parts = _parts(value, value.text)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path if path else parts.path))


def _grpc_url(value: Variable, *, insecure: bool) -> str:
    """The target with a scheme: the endpoint's own, else as ``…_INSECURE`` says."""
    url = value.text if "://" in value.text else f"http{'' if insecure else 's'}://{value.text}"
    return urlunsplit(_parts(value, url))


def _parts(value: Variable, url: str) -> SplitResult:
    takes = "a URL such as http://localhost:4318 or https://otlp.example.com"
    try:
        parts = urlsplit(url)
        port = parts.port
        # As the resolver will: it fails for an empty label or one that is too long.
        host = (parts.hostname or "").encode("idna")
    except ValueError:
        raise value.wrong(takes) from None
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        raise value.wrong(takes)
    if not re.fullmatch(r"[^\s\x00-\x1f\x7f]+", url) or not f"{parts.path}{parts.query}".isascii():
        raise value.wrong(f"{takes}, with spaces and what is not ASCII percent-encoded")
    return parts


def parse_pairs(
    value: Variable, header: re.Pattern[str] | None = None
) -> tuple[tuple[str, str], ...]:
    """Parse ``key=value,key=value``, percent-encoded (W3C Baggage).

    Raises:
        SettingsError: a pair is incomplete, or ``header`` does not match it.
    """
    pairs = []
    for item in value.text.split(","):
        if not item.strip():
            continue
        name, separator, text = (part.strip() for part in item.partition("="))
        name, text = unquote(name), unquote(text)
        text = text.encode("utf-8", "replace").decode()
        if not (separator and name) or (header and not header.fullmatch(f"{name}\n{text}")):
            # Values are often secret: the message shows the variable's name alone.
            what = ", in characters that a header can carry" if header else ""
            raise SettingsError(
                f"{value.name} can't be used: it takes key=value pairs, split by commas{what}."
            )
        pairs.append((name, text))
    return tuple(pairs)


def _seconds(value: Variable) -> float:
    try:
        seconds = float(value.text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= TIMEOUT_MAX:
        raise value.wrong("a positive number of seconds, such as 10")
    return seconds


def _gzip(value: Variable) -> bool:
    if value.text.lower() not in {"none", "gzip"}:
        raise value.wrong("gzip or none")
    return value.text.lower() == "gzip"


def parse_flag(value: Variable) -> bool:
    """Parse ``true`` or ``false``; empty is false. Raises SettingsError."""
    if value.text.strip().lower() not in {"", "true", "false"}:
        raise value.wrong("true or false")
    return value.text.strip().lower() == "true"


def _file(value: Variable) -> Path | None:
    if not value.text:
        return None
    path = Path(value.text)
    try:
        pem = path.is_file() and b"-----BEGIN " in path.read_bytes()
    except (OSError, ValueError):
        pem = False
    if not pem:
        raise value.wrong("the path of a file in PEM form that can be read")
    return path
