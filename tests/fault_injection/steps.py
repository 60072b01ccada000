"""The steps of a kill from the ring buffer to the backend, at each of which an agent can be killed.

A step is a function of the product and a moment of it: the product has no code for these tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import wraps
from typing import Any, Final


class When(Enum):
    """The moment of a function."""

    BEFORE = auto()
    AFTER = auto()
    RESUMED = auto()
    """Of a generator: the next value is requested, and the one before is processed."""


class Needs(Enum):
    """A condition for a step to be passed."""

    NOTHING = auto()
    GAP = auto()
    """No earlier pins, and kills that only the kernel log has."""
    REJECTION = auto()
    """A backend that rejects."""
    STOP = auto()
    """SIGTERM."""


@dataclass(frozen=True)
class Step:
    """A moment of a function, which is ``module:qualified.name``."""

    name: str
    function: str
    when: When
    needs: Needs = Needs.NOTHING


_CAPTURE: Final = "otel_oom.capture.bpf"
_STORE: Final = "otel_oom.store"

STEPS: Final = (
    # The start.
    Step("the state directory is locked", f"{_STORE}.state_dir:StateDirectory.lock", When.AFTER),
    Step("the schema is to be migrated", f"{_STORE}.schema:migrate", When.BEFORE),
    Step("the store is open", f"{_STORE}.store:Store.__enter__", When.AFTER),
    Step("the pins are locked", f"{_CAPTURE}.pinning:_lock_folder", When.AFTER),
    Step("maps are reused", f"{_CAPTURE}.pinning:Pins.reuse_maps", When.AFTER),
    Step("maps are to be pinned", f"{_CAPTURE}.pin_set:PinSet.pin_maps", When.BEFORE, Needs.GAP),
    Step("maps are pinned", f"{_CAPTURE}.pin_set:PinSet.pin_maps", When.AFTER, Needs.GAP),
    Step(
        "the pins are renamed into place",
        f"{_CAPTURE}.pinning:Pins.pin_maps",
        When.AFTER,
        Needs.GAP,
    ),
    Step("a link is pinned", f"{_CAPTURE}.object_info:BpfObjectInfo.pin", When.AFTER),
    Step("a link is renamed into place", f"{_CAPTURE}.pin_set:PinSet._replace", When.AFTER),
    Step("a link is disconnected", f"{_CAPTURE}.object:BpfObject.disconnect_link", When.AFTER),
    Step("the links are pinned", f"{_CAPTURE}.pinning:Pins.pin_links", When.AFTER),
    Step("capture has begun", f"{_CAPTURE}.source:LibbpfSource.__enter__", When.AFTER),
    # From the kernel's buffer to the disk.
    Step("a record is to be decoded", f"{_CAPTURE}.decoder:Decoder.decode", When.BEFORE),
    Step("a record is decoded", f"{_CAPTURE}.decoder:Decoder.decode", When.AFTER),
    Step("a snapshot is to be taken", "otel_oom.snapshot:take_snapshot", When.BEFORE),
    Step("a snapshot is taken", "otel_oom.snapshot:take_snapshot", When.AFTER),
    Step("a kill is written, not committed", f"{_STORE}.event_log:insert", When.AFTER),
    Step("a kill is committed", f"{_STORE}.store:Store.insert", When.AFTER),
    Step("an exit is written, not committed", f"{_STORE}.event_log:add_exit", When.AFTER),
    Step("an exit is committed", f"{_STORE}.store:Store.add_exit", When.AFTER),
    Step(
        "a record is handled, not released", "otel_oom.agent.ingest:IngestLoop._handle", When.AFTER
    ),
    Step("a record is released", f"{_CAPTURE}.ring_buffer:RingBuffer.records", When.RESUMED),
    # From the disk to the backend.
    Step("a kill is to be encoded", "otel_oom.agent.encoder:EventEncoder.encode", When.BEFORE),
    Step("a kill is encoded", "otel_oom.agent.encoder:EventEncoder.encode", When.AFTER),
    Step("a message is queued, not committed", f"{_STORE}.outbox:insert", When.AFTER),
    Step(
        "an event is marked as queued, not committed", f"{_STORE}.event_log:mark_queued", When.AFTER
    ),
    Step("messages are queued", f"{_STORE}.store:Store.enqueue", When.AFTER),
    Step("messages are to be sent", "otel_oom.export.http:HttpTransport.send", When.BEFORE),
    Step("messages are sent", "otel_oom.export.http_connection:HttpConnection.post", When.AFTER),
    Step("the response is decoded", "otel_oom.export.http:HttpTransport.send", When.AFTER),
    Step("messages are to be acknowledged", f"{_STORE}.store:Store.ack", When.BEFORE),
    Step("messages are deleted, not committed", f"{_STORE}.outbox:delete", When.AFTER),
    Step("messages are acknowledged", f"{_STORE}.store:Store.ack", When.AFTER),
    Step(
        "messages are to be rejected", f"{_STORE}.store:Store.reject", When.BEFORE, Needs.REJECTION
    ),
    Step("messages are rejected", f"{_STORE}.store:Store.reject", When.AFTER, Needs.REJECTION),
    # Reconciliation with the count of the kernel.
    Step(
        "the counts are to be compared", "otel_oom.agent.reconciler:Reconciler.compare", When.BEFORE
    ),
    Step("a gap is found", "otel_oom.agent.reconciler:Reconciler._fill_in", When.BEFORE, Needs.GAP),
    Step(
        "the log is read",
        "otel_oom.agent.reconciler:Reconciler._read_backlog",
        When.AFTER,
        Needs.GAP,
    ),
    Step(
        "a recovered kill is stored",
        "otel_oom.agent.ingest:IngestLoop._record_recovered",
        When.AFTER,
        Needs.GAP,
    ),
    Step(
        "the tally is to be updated",
        "otel_oom.agent.reconciler:Reconciler._settle",
        When.BEFORE,
        Needs.GAP,
    ),
    Step(
        "the tally is updated", f"{_STORE}.kernel_tally:KernelTally.update", When.AFTER, Needs.GAP
    ),
    # The end.
    Step(
        "delivery is to be stopped",
        "otel_oom.agent.delivery:DeliveryPipeline.stop",
        When.BEFORE,
        Needs.STOP,
    ),
    Step(
        "delivery is stopped",
        "otel_oom.agent.delivery:DeliveryPipeline.stop",
        When.AFTER,
        Needs.STOP,
    ),
    Step("the store is closed", f"{_STORE}.store:Store.__exit__", When.AFTER, Needs.STOP),
)
"""In the order of a kill's way."""


def find_step(name: str) -> Step:
    """Return the step of that name."""
    return next(step for step in STEPS if step.name == name)


def resolve(step: Step) -> tuple[Any, str]:
    """Return the module or class with the step's function, and its name there.

    Raises:
        AttributeError: the product has no such module or class any more.
    """
    module, _, path = step.function.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def wrap(step: Step, passed: Callable[[], None]) -> None:
    """Call ``passed`` at each pass of ``step`` in this process.

    Raises:
        AttributeError: the product has no such function any more.
    """
    owner, name = resolve(step)
    setattr(owner, name, _wrapped(getattr(owner, name), step.when, passed))


def _wrapped(
    function: Callable[..., Any], when: When, passed: Callable[[], None]
) -> Callable[..., Any]:
    @wraps(function)
    def before(*args: object, **named: object) -> object:
        passed()
        return function(*args, **named)

    @wraps(function)
    def after(*args: object, **named: object) -> object:
        done = function(*args, **named)
        passed()
        return done

    @wraps(function)
    def resumed(*args: object, **named: object) -> Iterator[object]:
        given = False
        for value in function(*args, **named):
            if given:
                passed()
            given = True
            yield value
        if given:
            passed()

    ways: dict[When, Callable[..., Any]] = {
        When.BEFORE: before,
        When.AFTER: after,
        When.RESUMED: resumed,
    }
    return ways[when]
