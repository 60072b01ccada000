"""A pytest plugin: all telemetry that a test sends is compared with the registry.

Checked is what this process builds, and what its servers receive from agents. The test that sends
what the registry does not allow fails.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import wraps
from typing import Any, Final
from unittest.mock import patch

import pytest
from google.protobuf.message import Message
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from tests.testlib.sent_telemetry import find_faults

_MARK: Final = "unregistered"
_faults: queue.SimpleQueue[str] = queue.SimpleQueue()
"""Faults since the last test; servers add to them in threads of their own."""


def check_telemetry(request: Message | None) -> None:
    """Let the test fail that runs, if the registry does not allow what ``request`` sends."""
    for fault in find_faults(request) if request else ():
        _faults.put(fault)


@pytest.fixture(scope="session", autouse=True)
def _watch_telemetry() -> Iterator[None]:
    """Check all that is built or received in this session."""
    from otel_oom.agent.metrics import exporter  # noqa: PLC0415  collection does without
    from otel_oom.commands.demo.receiver import Receiver  # noqa: PLC0415  likewise
    from otel_oom.otlp import encode  # noqa: PLC0415  likewise
    from otel_oom.otlp.event import Event  # noqa: PLC0415  likewise

    with ExitStack() as stack:
        for owner, name, request_of in (
            (encode, "build_log_request", lambda request: request),
            (Event, "to_readable_record", lambda record: encode_logs([record])),
            (Event, "to_span", lambda span: encode_spans([span] if span else [])),
            (exporter, "encode_metrics", lambda request: request),
        ):
            checked = _checked(getattr(owner, name), request_of)
            stack.enter_context(patch.object(owner, name, checked))
        stack.enter_context(patch.object(Receiver, "__init__", _receiving(Receiver.__init__)))
        yield
    _fail(take_faults())


@pytest.fixture(autouse=True)
def _check_sent_telemetry(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    own = [text for mark in request.node.iter_markers(_MARK) for text in mark.args]
    _fail([fault for fault in take_faults() if not any(text in fault for text in own)])


def _fail(faults: list[str]) -> None:
    assert not faults, "\n".join(["not as in the registry:", *sorted(set(faults))])


def take_faults() -> list[str]:
    """Return the faults since the last call."""
    return [_faults.get() for _ in range(_faults.qsize())]


def _checked(
    build: Callable[..., object], encode: Callable[[Any], Message]
) -> Callable[..., object]:
    @wraps(build)
    def build_and_check(*arguments: object) -> object:
        built = build(*arguments)
        check_telemetry(encode(built))
        return built

    return build_and_check


def _receiving(make: Callable[..., None]) -> Callable[..., None]:
    def make_receiver(
        self: object,
        on_request: Callable[[Message], object],
        *options: Any,  # noqa: ANN401  the receiver's own
        **named: Any,  # noqa: ANN401  likewise
    ) -> None:
        def check_and_respond(request: Message) -> object:
            check_telemetry(request)
            return on_request(request)

        make(self, check_and_respond, *options, **named)

    return make_receiver
