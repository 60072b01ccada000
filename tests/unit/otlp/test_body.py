"""Bodies of log records."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from otel_oom.model.types import Memcg, UserspaceOomDaemon
from otel_oom.otlp.body import kill_body
from tests.testlib.samples.events import (
    CONTAINER_ID,
    KILL,
    sample_enriched_kill,
)

CONTAINED = f"container {CONTAINER_ID[:12]}"


def test_body_is_one_sentence_with_victim_limit_and_trigger() -> None:
    text = kill_body(sample_enriched_kill())
    for part in (
        "java",
        "pid 4711",
        CONTAINER_ID[:12],
        "53.0 MiB",
        "64.0 MiB",
        "sidecar",
        "pid 99",
    ):
        assert part in text
    assert text.endswith(".")
    assert len(re.findall(r"\.(?:\s|$)", text)) == 1


@pytest.mark.parametrize(
    ("path", "trigger_path", "expected"),
    [
        ("/system.slice/web.service", "/system.slice/db.service", ("web.service", "db.service")),
        ("/system.slice/web.service", "/system.slice/web.service/x", ("web.service", None)),
        (
            "/user.slice/user-1.slice/user@1.service/app.slice/shop.service",
            "/user.slice/user-1.slice/user@1.service/init.scope",
            ("shop.service of user@1.service", "init.scope of user@1.service"),
        ),
        ("/x", "/system.slice/db.service", (None, "db.service")),
        # The name of a container comes first.
        (
            f"/system.slice/docker-{CONTAINER_ID}.scope",
            f"/system.slice/docker-{CONTAINER_ID}.scope/x",
            (CONTAINED, None),
        ),
        (f"/docker/{CONTAINER_ID}", "/system.slice/db.service", (CONTAINED, "db.service")),
        # The name of a cgroup can contain the id of the victim's container.
        (
            f"/docker/{CONTAINER_ID}",
            f"/system.slice/db.service/docker-{CONTAINER_ID}.scope",
            (CONTAINED, "db.service"),
        ),
    ],
)
def test_body_names_the_units_of_victim_and_trigger(
    path: str, trigger_path: str, expected: tuple[str | None, str | None]
) -> None:
    """Without a container, and the trigger's only where it is another one."""
    text = kill_body(
        sample_enriched_kill(memcg=Memcg(42, path), trigger_memcg=Memcg(43, trigger_path))
    )
    victim, trigger = expected
    location = f" in {victim}" if victim else ""
    assert f"java (pid 4711){location}; it used" in text
    assert (
        "sidecar (pid 99) requested" if trigger is None else f"(pid 99) in {trigger} requested"
    ) in text


def test_body_names_the_limit() -> None:
    assert "below /docker, which reached its limit of 64.0 MiB" in kill_body(sample_enriched_kill())
    assert KILL.decision is not None
    own = replace(KILL.decision, memcg=KILL.memcg)
    assert f"/docker/{CONTAINER_ID} reached its limit of 64.0 MiB" in kill_body(
        sample_enriched_kill(decision=own)
    )
    host = replace(KILL.decision, memcg=None, constraint="cpuset")
    assert "the host was out of memory on the nodes of its cpuset" in kill_body(
        sample_enriched_kill(decision=host)
    )


def test_body_names_the_trigger_and_its_request() -> None:
    requested = "requested shared memory or tmpfs by write()."
    assert kill_body(sample_enriched_kill()).endswith(f"; sidecar (pid 99) {requested}")
    assert kill_body(sample_enriched_kill(trigger=KILL.victim)).endswith(f"; it {requested}")
    assert kill_body(sample_enriched_kill(stack=())).endswith(
        "; sidecar (pid 99) requested memory."
    )
    assert "requested" not in kill_body(sample_enriched_kill(trigger=KILL.victim, stack=()))


def test_body_names_the_daemon_that_had_the_kernel_kill() -> None:
    """Else only the request is known."""
    stack = ("mark_oom_victim+0x1", "__oom_kill_process+0x1", "moom_callback+0x2")
    by_hand = kill_body(sample_enriched_kill(stack=stack))
    assert by_hand.endswith("; the kill was requested by sysrq.")
    killer = UserspaceOomDaemon("earlyoom")
    by_daemon = kill_body(sample_enriched_kill(stack=stack, killer=killer))
    assert by_daemon.endswith("; earlyoom requested it by sysrq.")
