"""Which source of what a victim was started with counts, from the mark to its container."""

from __future__ import annotations

from typing import cast

import pytest
from msgspec.structs import replace

from otel_oom.enrich.claims import ClaimBudget
from otel_oom.enrich.victim_start import add_container_settings, admit_claims
from otel_oom.model.runtime import JVM, RuntimeSettings
from otel_oom.model.snapshot import Container, EventContainers, Snapshot
from otel_oom.model.start_settings import CONTAINER, MARK, NOTE, PROCESS, StartSettings
from otel_oom.snapshot.environ import VictimText
from otel_oom.snapshot.process_notes import ProcessNotes
from otel_oom.snapshot.victim import take_snapshot
from tests.testlib.samples.events import KILL

NAME = "OTEL_SERVICE_NAME"
JAVA = "/usr/lib/jvm/bin/java"


class FakeNotes:
    """Notes that have one note, of each process."""

    def __init__(self, text: VictimText) -> None:
        self._text = text

    def find(self, *_: object) -> VictimText:
        return self._text


def take(start: StartSettings | None, note: VictimText, executable: str = JAVA) -> Snapshot:
    """Return the snapshot of a victim that is gone, with its mark and its note."""
    victim = replace(KILL.victim, tgid=2**22 + 1, start=start, executable=executable)
    notes = cast("ProcessNotes", FakeNotes(note))
    return take_snapshot(replace(KILL, victim=victim), None, notes=notes)


@pytest.mark.parametrize(
    ("start", "note", "expected"),
    [
        (StartSettings(MARK, {NAME: "a"}), VictimText({NAME: "b"}), ({NAME: "a"}, MARK)),
        # It has unset the variable.
        (StartSettings(MARK), VictimText({NAME: "b"}), ({}, MARK)),
        (
            StartSettings(MARK, {NAME: "a"}, is_complete=False),
            VictimText({NAME: "b"}),
            ({NAME: "b"}, NOTE),
        ),
        (StartSettings(MARK, {NAME: "a"}, is_complete=False), VictimText(), ({NAME: "a"}, MARK)),
        (None, VictimText({NAME: "b"}), ({NAME: "b"}, NOTE)),
        (StartSettings(MARK, is_complete=False), VictimText(), ({}, "")),
        (None, VictimText(), ({}, "")),
    ],
)
def test_the_first_whole_environment_counts(
    start: StartSettings | None, note: VictimText, expected: tuple[dict[str, str], str]
) -> None:
    snapshot = take(start, note)
    assert (snapshot.environ, snapshot.environ_source) == expected


def test_memory_settings_of_the_mark_belong_to_the_runtime_of_the_program() -> None:
    noted = RuntimeSettings(JVM, None, JAVA, {"-Xmx": "1g"}, is_complete=True)
    marked = StartSettings(MARK, {}, {"-Xmx": "512m"})
    of_mark = take(marked, VictimText(runtime=noted)).runtime
    assert of_mark == replace(noted, settings={"-Xmx": "512m"})
    assert take(None, VictimText(runtime=noted)).runtime == noted
    assert take(marked, VictimText(), executable="/bin/cat").runtime is None
    without_command = take(replace(marked, has_command=False), VictimText()).runtime
    assert without_command
    assert not without_command.is_complete


def test_the_container_counts_where_the_victim_was_not_read() -> None:
    start = StartSettings(CONTAINER, {NAME: "c"}, {"-Xmx": "2g"})
    containers = EventContainers(Container("ab" * 32, start=start))

    def admit(snapshot: Snapshot) -> tuple[str | None, str]:
        claims = admit_claims(ClaimBudget(), "/docker/a", snapshot, containers)
        return claims.attributes.get("service.name"), claims.source

    unread = Snapshot(process_found=False)
    assert admit(unread) == ("c", CONTAINER)
    assert admit(replace(unread, environ_source=MARK)) == (None, PROCESS)
    # A row of an agent that knew no sources.
    assert admit(replace(unread, environ={NAME: "p"})) == ("p", PROCESS)
    assert not admit_claims(None, "/docker/a", unread, containers).attributes

    bare = RuntimeSettings(JVM, None, JAVA)
    runtime = add_container_settings(replace(unread, runtime=bare), containers, JAVA).runtime
    assert runtime == replace(bare, settings={"-Xmx": "2g"})
    whole = replace(unread, runtime=replace(bare, is_complete=True))
    assert add_container_settings(whole, containers, JAVA) == whole
