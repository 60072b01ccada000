"""OTLP/gRPC: the stored bytes as they are, through a channel of the official client."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from otel_oom import __version__
from otel_oom.export.answer import RETRY_GRPC, Answer, Verdict, bounded
from otel_oom.export.settings import Endpoint
from otel_oom.export.signals import SIGNALS

_NANOS: Final = 1e9


class GrpcTransport:
    """Sends to one endpoint; see :class:`Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare for ``endpoint``; the first :meth:`send` connects."""
        self._endpoint = endpoint
        options = [("grpc.primary_user_agent", f"otel-oom/{__version__}")]
        compression = grpc.Compression.Gzip if endpoint.gzip else grpc.Compression.NoCompression
        target = endpoint.url.partition("://")[2].rstrip("/")
        self._channel = (
            grpc.secure_channel(target, _credentials(endpoint), options, compression)
            if endpoint.secure
            else grpc.insecure_channel(target, options, compression)
        )
        self._signal = SIGNALS[endpoint.signal]
        # Bytes in, bytes out: what is sent was encoded long before.
        self._export = self._channel.unary_unary(self._signal.method)
        self._metadata = tuple((name.lower(), value) for name, value in endpoint.headers)

    def send(self, body: bytes) -> Answer:
        """Call ``Export`` with ``body``; see :meth:`Transport.send`."""
        try:
            content = self._export(body, timeout=self._endpoint.timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return _refusal(error)
        except ValueError as error:
            # What grpc raises once its channel is closed.
            return Answer(Verdict.LATER, bounded(str(error)))
        return self._signal.taken(content)

    def close(self) -> None:
        """Close the channel; a call under way ends as cancelled."""
        self._channel.close()


def _refusal(error: grpc.RpcError) -> Answer:
    code = error.code().name
    reason = bounded(f"gRPC {code}: {error.details()}")
    wait_s = retry_info_s(error.trailing_metadata() or ())
    if code in RETRY_GRPC or (code == "RESOURCE_EXHAUSTED" and wait_s is not None):
        return Answer(Verdict.LATER, reason, wait_s)
    return Answer(Verdict.REFUSED, reason)


def retry_info_s(trailers: Iterable[tuple[str, str | bytes]]) -> float | None:
    """The seconds that a ``RetryInfo`` in the trailers asks for.

    It comes inside ``grpc-status-details-bin``, as the specification has it, or alone.
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
    certificate, key, chain = (
        path.read_bytes() if path else None
        for path in (endpoint.certificate, endpoint.client_key, endpoint.client_certificate)
    )
    return grpc.ssl_channel_credentials(certificate, key, chain)
