"""The steps of a kill from the kernel's buffer to the backend, each a place to die at.

A step is a function of the product and a moment of it, so that nothing in the product is there
for these tests. Where one is renamed, :func:`wrap` says so.
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
    """Of a generator: what it does when the next value is asked for is done."""


class Needs(Enum):
    """What has to be so for a step to be passed."""

    NOTHING = auto()
    GAP = auto()
    """No pins from before, and kills that only the kernel's log has."""
    REFUSAL = auto()
    """A backend that refuses."""
    STOP = auto()
    """SIGTERM."""


@dataclass(frozen=True)
class Step:
    """A moment of the function ``place``, which is ``module:qualified.name``."""

    name: str
    place: str
    when: When
    needs: Needs = Needs.NOTHING


_CAPTURE: Final = "otel_oom.capture.bpf"
_STORE: Final = "otel_oom.store"

STEPS: Final = (
    # The start.
    Step("the state directory is locked", f"{_STORE}.state_dir:StateDirectory.lock", When.AFTER),
    Step("the tables are to be made ready", f"{_STORE}.schema:migrate", When.BEFORE),
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
    Step("the victim is to be looked at", "otel_oom.snapshot:take_snapshot", When.BEFORE),
    Step("the victim is looked at", "otel_oom.snapshot:take_snapshot", When.AFTER),
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
    Step("messages are sent", "otel_oom.export.http:HttpTransport._exchange", When.AFTER),
    Step("the answer is understood", "otel_oom.export.http:HttpTransport.send", When.AFTER),
    Step("a delivery is to be noted", f"{_STORE}.store:Store.ack", When.BEFORE),
    Step("messages are deleted, not committed", f"{_STORE}.outbox:delete", When.AFTER),
    Step("a delivery is noted", f"{_STORE}.store:Store.ack", When.AFTER),
    Step("a refusal is to be noted", f"{_STORE}.store:Store.reject", When.BEFORE, Needs.REFUSAL),
    Step("a refusal is noted", f"{_STORE}.store:Store.reject", When.AFTER, Needs.REFUSAL),
    # What the kernel has counted against what is told.
    Step(
        "the count is to be compared", "otel_oom.agent.reconciler:Reconciler.compare", When.BEFORE
    ),
    Step("a gap is found", "otel_oom.agent.reconciler:Reconciler._fill_in", When.BEFORE, Needs.GAP),
    Step(
        "the log is read",
        "otel_oom.agent.reconciler:Reconciler._read_backlog",
        When.AFTER,
        Needs.GAP,
    ),
    Step(
        "a found kill is stored",
        "otel_oom.agent.ingest:IngestLoop._record_recovered",
        When.AFTER,
        Needs.GAP,
    ),
    Step(
        "a gap is to be settled",
        "otel_oom.agent.reconciler:Reconciler._settle",
        When.BEFORE,
        Needs.GAP,
    ),
    Step("a gap is settled", f"{_STORE}.store:Store.update_tally", When.AFTER, Needs.GAP),
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


def find(name: str) -> Step:
    """The step of that name."""
    return next(step for step in STEPS if step.name == name)


def located(step: Step) -> tuple[Any, str]:
    """The module or class that has the function of ``step``, and its name there.

    Raises:
        AttributeError: the product has no such module or class any more.
    """
    module, _, path = step.place.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for each in outer:
        owner = getattr(owner, each)
    return owner, name


def wrap(step: Step, passed: Callable[[], None]) -> None:
    """Have ``passed`` called at each pass of ``step`` in this process.

    Raises:
        AttributeError: the product has no such function any more.
    """
    owner, name = located(step)
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
