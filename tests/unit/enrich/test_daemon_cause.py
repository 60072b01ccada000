"""The cause of what a userspace OOM daemon killed, or had the kernel kill."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill, enrich_userspace_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.events import UserspaceKill
from otel_oom.model.types import Capture, UserspaceOomDaemon
from otel_oom.otlp.event import build_event
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST, KILL, SNAPSHOT

EARLYOOM = UserspaceOomDaemon("earlyoom", "SIGTERM", "memory_available", limit=10.0)
SYSRQ_STACK = ("mark_oom_victim+0x1", "__oom_kill_process+0x1", "moom_callback+0x2")


def attributes_of(killer: UserspaceOomDaemon, *, verified: bool = True) -> dict[str, object]:
    kill = UserspaceKill(
        boot_id=KILL.boot_id,
        boottime_ns=KILL.boottime_ns,
        time_unix_ns=KILL.time_unix_ns,
        trigger=None,
        capture=Capture("journal", "systemd-journald", None, 1),
        killer=killer,
        victim=KILL.victim,
        memcg=KILL.memcg,
        completed=True,
        verified=verified,
        original="",
    )
    return dict(build_event(enrich_userspace_kill(kill, SNAPSHOT, 0, HOST)).attributes)


def test_a_daemon_that_measures_the_host_names_its_memory() -> None:
    attributes = attributes_of(EARLYOOM)
    assert attributes["oom.cause"] == "host_memory"
    evidence = check_evidence(attributes)
    assert evidence["oom.killer.reason"] == "memory_available"
    assert evidence["oom.host.memory.available"] == str(5 << 30)


@pytest.mark.parametrize(
    ("killer", "verified"),
    [
        (EARLYOOM, False),
        (UserspaceOomDaemon("systemd-oomd", "SIGKILL", "memory_pressure", limit=50.0), True),
        (UserspaceOomDaemon("oomd", "SIGKILL"), True),
    ],
)
def test_a_forged_message_and_pressure_are_no_evidence(
    killer: UserspaceOomDaemon, *, verified: bool
) -> None:
    attributes = attributes_of(killer, verified=verified)
    assert attributes["oom.cause"] == "unknown"
    assert not check_evidence(attributes)


@pytest.mark.parametrize(
    ("killer", "cause"),
    [
        (None, "requested"),
        (UserspaceOomDaemon("earlyoom", reason="memory_available", limit=10.0), "host_memory"),
        (UserspaceOomDaemon("earlyoom"), "requested"),
    ],
)
def test_a_request_to_the_kernel_has_the_reason_of_its_daemon(
    killer: UserspaceOomDaemon | None, cause: str
) -> None:
    """A person's request has advice: a daemon's is no manual one."""
    kill = replace(KILL, stack=SYSRQ_STACK, killer=killer)
    attributes = build_event(enrich_kill(kill, SNAPSHOT, VictimOutcome(), 5, HOST)).attributes
    assert attributes["oom.cause"] == cause
    assert check_evidence(attributes)
    assert ("oom.advice" in attributes) == (killer is None)
