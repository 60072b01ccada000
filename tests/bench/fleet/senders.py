"""Processes that each send as some thousand hosts."""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.exporter import SignalExporter
from otel_oom.export.http import HttpTransport
from otel_oom.export.result import ExportResult
from otel_oom.export.retry import RetryGate
from otel_oom.export.signals import SIGNALS
from otel_oom.store import Store
from tests.bench.fleet.host import SIGNALS as KILL_SIGNALS
from tests.bench.fleet.host import Attempt, LossyTransport, SimulatedHost
from tests.bench.fleet.recording import Recording
from tests.bench.fleet.schedule import advance_hosts

PROCESSES: Final = 4
_NICENESS: Final = 10
"""Behind the gateways and stores, whose work is measured."""


class Plan(Struct, frozen=True):
    """What some hosts send, ``numbers`` of a fleet, to the gateways in turn.

    A host has ``kills`` kills, the first of which has number ``first_kill``, at random times of the
    ``spread_s`` seconds from ``begin_unix_s`` on. Each ``loss_every``-th host loses a response.
    """

    gateways: tuple[str, ...]
    numbers: tuple[int, ...]
    begin_unix_s: float
    spread_s: float
    deadline_unix_s: float
    first_kill: int = 0
    kills: int = 1
    loss_every: int = 0


class SentRequests(Struct, frozen=True):
    """All requests of a process, and how many messages are undelivered or rejected for good."""

    attempts: list[Attempt]
    undelivered: int = 0
    rejected: int = 0


class Senders:
    """The processes; see :func:`run_senders`."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def start_kills(self, plan: Plan) -> Callable[[], SentRequests]:
        """Send the kills of a plan in the background; return a function that waits for that."""
        return self._start(_send_kills, plan)

    def send_metrics(self, plan: Plan) -> SentRequests:
        """Send exports of metrics, as many as the plan has kills, each after ``spread_s``."""
        return self._start(_send_metrics, plan)()

    def _start(
        self, send: Callable[[Plan], SentRequests], plan: Plan
    ) -> Callable[[], SentRequests]:
        parts = [plan.numbers[index::PROCESSES] for index in range(PROCESSES)]
        futures = [self._pool.submit(send, replace(plan, numbers=part)) for part in parts]

        def wait() -> SentRequests:
            results = [future.result() for future in futures]
            return SentRequests(
                sorted(itertools.chain(*(each.attempts for each in results)), key=_time_of),
                sum(each.undelivered for each in results),
                sum(each.rejected for each in results),
            )

        return wait


@contextmanager
def run_senders() -> Iterator[Senders]:
    """Run the processes."""
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), initializer=_begin) as pool:
        yield Senders(pool)


def _begin() -> None:
    os.nice(_NICENESS)
    logging.disable()


def _time_of(attempt: Attempt) -> float:
    return attempt.unix_s


def _send_kills(plan: Plan) -> SentRequests:
    recording, attempts = Recording(), list[Attempt]()
    hosts = [_make_host(plan, recording, number, attempts.append) for number in plan.numbers]
    advance_hosts(hosts, plan.begin_unix_s, plan.deadline_unix_s)
    undelivered = sum(len(each.outbox) for each in hosts)
    rejected = sum(len(each.outbox.rejected) for each in hosts)
    return SentRequests(attempts, undelivered, rejected)


def _make_host(
    plan: Plan, recording: Recording, number: int, report: Callable[[Attempt], None]
) -> SimulatedHost:
    loses = plan.loss_every and number % plan.loss_every == 0

    def make_exporters(store: Store, gate: RetryGate) -> Sequence[SignalExporter]:
        endpoints = [_make_endpoint(plan, number, signal) for signal in KILL_SIGNALS]
        return [
            SignalExporter(
                store,
                each,
                LossyTransport(HttpTransport(each), number, 1 if loses else 0, report),
                gate,
            )
            for each in endpoints
        ]

    def encode(index: int) -> tuple[str, Mapping[str, bytes]]:
        kill = recording.encode_kill(number, plan.first_kill + index, time.time_ns())
        return kill.uid, kill.messages

    rng = random.Random(number)  # noqa: S311  no secret
    times_s = sorted(rng.uniform(0, plan.spread_s) for _ in range(plan.kills))
    kills = [
        (plan.begin_unix_s + time_s, partial(encode, index)) for index, time_s in enumerate(times_s)
    ]
    return SimulatedHost(kills, make_exporters)


def _make_endpoint(plan: Plan, number: int, signal: str) -> Endpoint:
    gateway = plan.gateways[number % len(plan.gateways)]
    return Endpoint(signal, HTTP, gateway + SIGNALS[signal].path)


def _send_metrics(plan: Plan) -> SentRequests:
    recording, attempts = Recording(), list[Attempt]()
    hosts = [_MetricHost(plan, recording, number, attempts.append) for number in plan.numbers]
    advance_hosts(hosts, plan.begin_unix_s, plan.deadline_unix_s)
    return SentRequests(attempts, sum(each.remaining for each in hosts))


class _MetricHost:
    """The exports of a host, at a random time of the first interval and every interval after."""

    def __init__(
        self, plan: Plan, recording: Recording, number: int, report: Callable[[Attempt], None]
    ) -> None:
        rng = random.Random(number)  # noqa: S311  no secret
        self._next = plan.begin_unix_s + rng.uniform(0, plan.spread_s)
        self._interval_s = plan.spread_s
        self.remaining = plan.kills
        self._encode = partial(recording.encode_metrics, number)
        inner = HttpTransport(_make_endpoint(plan, number, "metrics"))
        self._transport = LossyTransport(inner, number, 0, report)

    def advance(self) -> float:
        """Export if it is due; a failure is not repeated."""
        if time.time() >= self._next:
            response = self._transport.send(self._encode(time.time_ns()))
            self._next += self._interval_s
            self.remaining -= response.result is ExportResult.ACCEPTED
        return self._next if self.remaining > 0 else math.inf

    def close(self) -> None:
        """Close its connection."""
        self._transport.close()
