"""A program's threads: errors, the end, and what a program's own code may do wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

import otel_oom
from otel_oom.library import capture_thread
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent
from otel_oom.pipeline import OomEvents
from otel_oom.store import Store
from tests.testlib.ingest import ScriptedSource
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_kill
from tests.testlib.wait import wait_until


class SpanList(SpanProcessor):
    """A processor that keeps the spans; it raises for the first ``failures``."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.uids: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("broken exporter")
        self.uids.append(str((span.attributes or {})["log.record.uid"]))


@pytest.fixture(autouse=True)
def _private_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave no thread and no temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def script(monkeypatch: pytest.MonkeyPatch, *events: CapturedEvent) -> None:
    """Have the kernel side yield ``events``."""

    @contextmanager
    def open_source(*_: object, **__: object) -> Iterator[ScriptedSource]:
        with ScriptedSource(events) as source:
            yield source

    monkeypatch.setattr(capture_thread, "open_source", open_source)


def fail_to_open(*_: object, **__: object) -> None:
    raise otel_oom.CaptureError("no rights: run it as root")


@contextmanager
def limit(events: otel_oom.Watch) -> Iterator[None]:
    """End the wait for an event that does not come."""
    timer = threading.Timer(30, events.close)
    timer.start()
    yield
    timer.cancel()


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "otel-oom" in thread.name]


def test_missing_rights_are_raised_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(capture_thread, "open_source", fail_to_open)
    with pytest.raises(otel_oom.CaptureError, match="run it as root"):
        otel_oom.watch()
    events = OomEvents()
    with pytest.raises(otel_oom.CaptureError, match="run it as root"):
        events.start()
    events.stop()
    assert thread_names() == []
    assert list(tmp_path.iterdir()) == []


def test_end_of_the_capture_is_raised_by_the_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for events must not wait for ever."""
    script(monkeypatch)
    monkeypatch.setattr(
        "otel_oom.agent.ingest.IngestLoop.loop",
        lambda *_: 1 / 0,  # a fault of ours
    )
    with otel_oom.watch() as events, limit(events), pytest.raises(ZeroDivisionError):
        next(events)


def test_closed_iterator_has_no_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(monkeypatch, KILL)
    events = otel_oom.watch()
    events.close()
    events.close()
    assert list(events) == []
    assert thread_names() == []
    assert list(tmp_path.iterdir()) == []


def test_close_ends_a_wait_in_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch)
    events = otel_oom.watch()
    reader = threading.Thread(target=lambda: list(events))
    reader.start()
    events.close()
    reader.join(10)
    assert not reader.is_alive()
    wait_until(lambda: not thread_names(), "the end of the threads")


def test_unacknowledged_event_stays_pending(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The one before it, which was acknowledged by a request for the next one, does not."""
    script(monkeypatch)
    state_dir = tmp_path / "state"
    kills = [replace(sample_kill(number), boot_id="an earlier one") for number in range(2)]
    with Store(state_dir) as store:
        for kill in kills:
            store.insert(kill, SNAPSHOT)
    with otel_oom.watch(state_dir=state_dir) as events, limit(events):
        assert [next(events).uid, next(events).uid] == [kill.uid for kill in kills]
    with otel_oom.watch(state_dir=str(state_dir)) as events, limit(events):
        assert next(events).uid == kills[1].uid


def test_stop_emits_spans_that_wait_for_an_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing outlives a program without a folder; its second stop does nothing."""
    now_ns = clock.boottime_ns()
    kill = replace(KILL, boot_id=clock.boot_id(), boottime_ns=now_ns)
    script(monkeypatch, kill)
    spans = SpanList()
    events = OomEvents(span_processors=[spans])
    events.start()
    with pytest.raises(RuntimeError, match="stop it first"):
        events.start()
    assert spans.uids == []
    events.stop()
    events.stop()
    assert spans.uids == [kill.uid]
    assert thread_names() == []


def test_stop_does_not_wait_for_an_exporter_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything is released once it returns, and until then nothing of it is taken away."""
    script(monkeypatch, KILL)
    released = threading.Event()

    class Hanging(SpanList):
        def on_end(self, span: ReadableSpan) -> None:
            released.wait(30)
            super().on_end(span)

    spans = Hanging()
    events = OomEvents(span_processors=[spans])
    events.start()
    events.stop(0.05)
    assert "exporters took longer" in caplog.text
    assert spans.uids == []
    released.set()
    wait_until(lambda: not thread_names(), "the end of the threads")
    assert spans.uids == [KILL.uid]


def test_failure_of_a_programs_exporter_costs_its_event_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    later = sample_kill(1)
    script(monkeypatch, KILL, later)
    spans = SpanList(failures=1)
    with OomEvents(span_processors=[spans]):
        pass
    assert spans.uids == [later.uid]
    assert "was dropped: emitting it failed" in caplog.text


def test_processor_drops_an_event_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = sample_kill(1)
    script(monkeypatch, KILL, kept)
    spans = SpanList()

    def drop(event: otel_oom.Event) -> otel_oom.Event | None:
        return None if event.uid == KILL.uid else event

    with OomEvents(span_processors=[spans], processors=[drop]):
        pass
    assert spans.uids == [kept.uid]
