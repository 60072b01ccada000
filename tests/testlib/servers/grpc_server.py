"""A real gRPC server in the test's process that receives OTLP as bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import grpc

from tests.testlib.servers.otlp_request import decode_grpc
from tests.testlib.servers.tls import Authority, Identity
from tests.testlib.telemetry_watch import check_telemetry

_SERVICES = (
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.trace.v1.TraceService",
)


@dataclass(frozen=True)
class Call:
    """A call of ``Export``."""

    service: str
    body: bytes
    metadata: dict[str, str | bytes]


Answer = Callable[[Call, grpc.ServicerContext], bytes]
"""The bytes of the response; it may fail the call through its context."""


class GrpcServer:
    """Listens on loopback in its context, and keeps the calls."""

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        identity: Identity | None = None,
        clients: Authority | None = None,
        port: int = 0,
    ) -> None:
        """Respond by ``answer``, by default with success; with an ``identity`` over TLS."""
        self.calls: list[Call] = []
        self.over = threading.Event()
        self._answer = answer or (lambda *_: b"")
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers(tuple(map(self._handler, _SERVICES)))
        where = f"127.0.0.1:{port}"
        self.port: int = (
            self._server.add_secure_port(where, _credentials(identity, clients))
            if identity
            else self._server.add_insecure_port(where)
        )

    @property
    def address(self) -> str:
        """Return host:port."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all calls, and stop."""
        self.over.set()
        self._server.stop(None).wait(30)
        self._pool.shutdown()

    def _handler(self, service: str) -> grpc.GenericRpcHandler:
        def export(body: bytes, context: grpc.ServicerContext) -> bytes:
            call = Call(service, body, dict(context.invocation_metadata()))
            self.calls.append(call)
            check_telemetry(decode_grpc(service, body))
            return self._answer(call, context)

        handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
        return grpc.method_handlers_generic_handler(service, handlers)


def _credentials(identity: Identity, clients: Authority | None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(identity.key.read_bytes(), identity.certificate.read_bytes())],
        clients.certificate.read_bytes() if clients else None,
        require_client_auth=clients is not None,
    )
