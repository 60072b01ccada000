"""The log event of a victim's end."""

from __future__ import annotations

from msgspec.structs import replace
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from otel_oom.enrich.types import EnrichedKill, StillAlive, VictimOutcome
from otel_oom.otlp.encode import encode_event_log
from otel_oom.otlp.event import build_end_event
from tests.testlib.registry import load_registry
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.events import EXIT, KILL, REAPER_STEPS, sample_enriched_kill
from tests.testlib.samples.otlp import log_attributes, parse_log_record, span
from tests.testlib.servers.backend import attributes_to_dict

ALIVE = VictimOutcome(alive=StillAlive(KILL.boottime_ns + 10_000_000_000, "D"))


def end_record(enriched: EnrichedKill) -> LogRecord:
    """Return the record of the end."""
    event = build_end_event(enriched)
    assert event is not None
    return parse_log_record(encode_event_log(event))


def test_exit_is_a_log_event_at_its_own_time() -> None:
    kill = sample_enriched_kill()
    record, dying = end_record(kill), span(kill)
    assert (record.event_name, record.severity_number) == (
        "oom.victim.exited",
        SeverityNumber.SEVERITY_NUMBER_INFO,
    )
    assert record.time_unix_nano == dying.end_time_unix_nano == KILL.time_unix_ns + 250_000_000
    assert record.observed_time_unix_nano >= record.time_unix_nano
    assert (record.trace_id, record.span_id) == (dying.trace_id, dying.span_id)
    assert record.body.string_value == (
        "java (pid 4711) exited 250.0 ms after the kernel's OOM killer chose it."
    )
    assert attributes_to_dict(record.attributes) == {
        "log.record.uid": KILL.end_uid,
        "oom.kill.id": KILL.uid,
        "oom.incident.id": KILL.uid,
        "oom.outcome": "killed",
        "process.pid": 4711,
        "process.vpid": log_attributes(kill)["process.vpid"],
        "process.creation.time": log_attributes(kill)["process.creation.time"],
        "process.executable.name": "java",
        "oom.victim.comm": "java",
        "oom.victim.memory.resident": 53 << 20,
        "oom.victim.exited": True,
        "oom.victim.exit.signal": 9,
        "oom.victim.exit.delay": 0.25,
        "process.exit.time": "2023-11-14T22:13:20.250Z",
    }


def test_only_a_kill_has_the_attribute_by_which_backends_find_kills() -> None:
    """docs/backends.md has queries with `error.type`, which no end of a victim may match."""
    kill, registry = sample_enriched_kill(), load_registry()
    events = {id_: group for id_, group in registry.groups.items() if group["type"] == "event"}
    carriers = {id_ for id_ in events if "error.type" in registry.uses(id_)}
    assert carriers == {"event.oom.kill"}
    assert registry.uses("event.oom.kill")["error.type"] == "required"
    assert log_attributes(kill)["error.type"] == "oom_kill"
    assert attributes_to_dict(span(kill).attributes)["error.type"] == "oom_kill"
    for ended in (kill, replace(kill, victim_outcome=ALIVE)):
        assert "error.type" not in attributes_to_dict(end_record(ended).attributes)
    pages = [REPOSITORY / "docs/backends.md", *REPOSITORY.glob("collector-config/vendors/*.yaml")]
    for page in pages:
        assert "oom.outcome" not in page.read_text("utf-8"), page


def test_victim_that_is_alive_is_a_warning() -> None:
    record = end_record(replace(sample_enriched_kill(), victim_outcome=ALIVE))
    attributes = attributes_to_dict(record.attributes)
    assert (record.event_name, record.severity_number) == (
        "oom.victim.alive",
        SeverityNumber.SEVERITY_NUMBER_WARN,
    )
    assert (attributes["oom.victim.exited"], attributes["oom.victim.state"]) == (False, "D")
    assert "process.exit.time" not in attributes
    assert record.body.string_value == (
        "java (pid 4711) is in state D and has not exited 10000.0 ms after the kernel's OOM "
        "killer chose it."
    )


def test_stages_of_the_reaper_have_their_delays() -> None:
    """Of two attempts, the first start and the last finish, with what the victim had left."""
    start, finish = REAPER_STEPS
    again = [
        replace(start, boottime_ns=start.boottime_ns + 150_000_000, resident=finish.resident),
        replace(finish, boottime_ns=finish.boottime_ns + 150_000_000, resident=4096),
    ]
    outcome = VictimOutcome(EXIT, (start, finish, *again))
    record = end_record(replace(sample_enriched_kill(), victim_outcome=outcome))
    attributes = attributes_to_dict(record.attributes)
    stages = {name: value for name, value in attributes.items() if name.startswith("oom.reaper.")}
    assert stages == {
        "oom.reaper.delay.start": 0.1,
        "oom.reaper.delay.finish": 0.35,
        "oom.reaper.attempts": 2,
        "oom.reaper.resident": 4096,
    }
    assert attributes["oom.victim.memory.reaped"] == (50 << 20) - 4096
    assert record.body.string_value.endswith("chose it; the oom_reaper freed 50.0 MiB.")


def test_an_unknown_end_has_no_event() -> None:
    kill = sample_enriched_kill()
    assert build_end_event(replace(kill, victim_outcome=VictimOutcome())) is None


def test_each_victim_of_a_decision_has_its_own_end() -> None:
    member = sample_enriched_kill(number=1, incident=KILL.uid)
    attributes = attributes_to_dict(end_record(member).attributes)
    assert attributes["oom.kill.id"] == member.event.uid != KILL.uid
    assert attributes["oom.incident.id"] == KILL.uid
    assert attributes["log.record.uid"] == member.event.end_uid != KILL.end_uid
