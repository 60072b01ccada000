"""OTLP/gRPC: send stored bytes through a channel of the official client."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

# gRPC's core writes to stderr what a server says as it hangs up, and passwords of proxies.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel_oom.config.endpoint import Endpoint
from otel_oom.export.proxy import check_grpc_proxy
from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason
from otel_oom.export.signals import SIGNALS
from otel_oom.export.user_agent import USER_AGENT

_NANOS: Final = 1e9
_OPTIONS: Final = (
    ("grpc.primary_user_agent", USER_AGENT),
    # Otherwise channels share connections, and a new channel may get a dead one.
    ("grpc.use_local_subchannel_pool", 1),
)

_RETRYABLE: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""Status codes; also RESOURCE_EXHAUSTED if RetryInfo comes with it."""
_MISCONFIGURED: Final = frozenset({"UNAUTHENTICATED", "UNIMPLEMENTED"})
"""Status codes that no message causes."""
_TOO_LARGE: Final = {
    "RESOURCE_EXHAUSTED": ("larger than max", "exceeds maximum size", "exceeds the maximum"),
    "OUT_OF_RANGE": ("message length too large",),
}
"""Messages of servers about a request that is too large: Go, C++ and Python; Java; .NET; and Rust
(tonic), whose status code alone would be retried for ever."""


class GrpcTransport:
    """Transport of one endpoint; see :class:`Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._signal = SIGNALS[endpoint.signal]
        headers = ((name.lower(), text) for name, text in endpoint.headers)
        self._metadata = tuple(
            (name, text.encode() if name.endswith("-bin") else text) for name, text in headers
        )
        self._mutex = threading.Lock()
        self._closed = False
        self._channel: grpc.Channel | None = None

    def send(self, body: bytes) -> ExportResponse:
        """Call ``Export`` with ``body``; see :meth:`Transport.send`."""
        response = self._send(body)
        if response.result is ExportResult.RETRYABLE:
            # A channel keeps a dead connection for many minutes, fails calls for up to two
            # minutes after a backend is back, and never reads its certificate files again.
            self._discard_channel()
        return replace(response, reason=sanitize_reason(response.reason, self._endpoint.secrets))

    def _send(self, body: bytes) -> ExportResponse:
        try:
            # Bytes in, bytes out: the messages were encoded long before.
            export = self._open_channel().unary_unary(self._signal.method)
            content = export(body, timeout=self._endpoint.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return _classify_error(error)
        except (OSError, ValueError) as error:
            # A missing certificate file; or grpc's error for a closed channel.
            return ExportResponse(ExportResult.RETRYABLE, str(error))
        # The status decides; some servers send a body of their own with it.
        return self._signal.parse_success(content) or ExportResponse(ExportResult.ACCEPTED)

    def _open_channel(self) -> grpc.Channel:
        with self._mutex:
            if self._closed:
                raise ConnectionAbortedError("the transport is closed")
            self._channel = self._channel or _create_channel(self._endpoint)
            return self._channel

    def _discard_channel(self) -> None:
        with self._mutex:
            if self._channel:
                self._channel.close()
            self._channel = None

    def close(self) -> None:
        """Close the channel; a call under way is cancelled."""
        self._closed = True
        self._discard_channel()


def _create_channel(endpoint: Endpoint) -> grpc.Channel:
    target = endpoint.target
    check_grpc_proxy(target)
    compression = grpc.Compression.Gzip if endpoint.gzip else grpc.Compression.NoCompression
    if endpoint.secure:
        return grpc.secure_channel(target, _credentials(endpoint), _OPTIONS, compression)
    return grpc.insecure_channel(target, _OPTIONS, compression)


_NO_GRPC: Final = ("Stream removed", "Received http2 header with status")
"""Beginnings of the client's own message about a response that is not of gRPC, or too long. A proxy
or login page may have sent it: it says nothing about a message."""


def _classify_error(error: grpc.RpcError) -> ExportResponse:
    code, details = error.code().name, error.details() or ""
    reason = f"gRPC {code}: {details}"
    if code in _MISCONFIGURED:
        return ExportResponse(ExportResult.MISCONFIGURED, reason, status_code=code)
    retry_after_s = parse_retry_info_s(error.trailing_metadata() or ())
    if (
        code in _RETRYABLE
        or details.startswith(_NO_GRPC)
        or (code == "RESOURCE_EXHAUSTED" and retry_after_s is not None)
    ):
        result = ExportResult.RETRYABLE
    else:
        result = ExportResult.REJECTED
    marks = () if details.startswith(_NO_GRPC) else _TOO_LARGE.get(code, ())
    if retry_after_s is None and any(mark in details.lower() for mark in marks):
        result = ExportResult.TOO_LARGE
    return ExportResponse(result, reason, retry_after_s, status_code=code)


def parse_retry_info_s(trailers: Iterable[tuple[str, str | bytes]]) -> float | None:
    """Return the seconds of the ``RetryInfo`` in the trailers.

    It comes inside ``grpc-status-details-bin``, as specified, or alone.
    """
    for name, value in trailers:
        if not isinstance(value, bytes):
            continue
        info = RetryInfo()
        try:
            if name == "google.rpc.retryinfo-bin":
                info.ParseFromString(value)
                return _duration_s(info)
            if name == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    if detail.Unpack(info):
                        return _duration_s(info)
        except DecodeError:
            continue
    return None


def _duration_s(info: RetryInfo) -> float:
    return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / _NANOS))


def _credentials(endpoint: Endpoint) -> grpc.ChannelCredentials:
    chain = endpoint.client_certificate
    # The key may be in the certificate's file. With only one of both, grpc ends the process.
    key = (endpoint.client_key or chain) if chain else None
    files = (endpoint.certificate, key, chain)
    return grpc.ssl_channel_credentials(*(path.read_bytes() if path else None for path in files))
